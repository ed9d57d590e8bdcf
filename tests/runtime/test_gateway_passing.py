"""The router passes requests and answers through, unchanged but for what a router adds."""

import asyncio

import pytest

from support.web import CANARY, STABLE, Upstream, bytes_answer, json_answer, world

CHAT = "/v1/chat/completions"


@pytest.fixture
async def stable():
    return Upstream("stable")


@pytest.fixture
async def canary():
    return Upstream("canary")


@pytest.fixture
async def here(stable, canary):
    async with world(stable, canary) as made:
        yield made


async def test_a_request_and_its_answer_pass(here, stable):
    answer = await here.client.post(f"{CHAT}?x=%2F", json={"model": "m"}, headers={"x-a": "b"})
    assert answer.status_code == 200
    assert answer.json() == {"from": "stable"}
    assert answer.headers["x-modelserver-revision"] == STABLE
    [asked] = stable.requests
    assert (asked.method, asked.path, asked.query) == ("POST", CHAT, "x=%2F")
    assert asked.json == {"model": "m"}
    assert asked.headers["x-a"] == "b"
    assert asked.headers["x-forwarded-for"] == "127.0.0.1"
    assert asked.headers["x-request-id"] == answer.headers["x-request-id"]


async def test_weights_divide_requests_exactly(here, stable, canary):
    here.follow(weight=25)
    for _ in range(40):
        await here.client.get("/v1/models")
    assert (len(stable.requests), len(canary.requests)) == (30, 10)
    assert here.counts(CANARY).requests == 10
