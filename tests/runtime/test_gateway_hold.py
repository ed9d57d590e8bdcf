"""Requests that are held: bounds, release in order, clients that leave."""

import asyncio
import socket

import pytest

from modelserver_runtime.errors import UpstreamUnreachable
from modelserver_runtime.gateway.pool import Pool
from support.web import STABLE, Upstream, route, serving, until, world

CHAT = "/v1/chat/completions"
HOLD = {"maxRequests": 3, "maxBytes": 1000, "maxSeconds": 600}


@pytest.fixture
async def stable():
    return Upstream("stable")


@pytest.fixture
async def here(stable):
    async with world(stable, Upstream("canary")) as made:
        yield made


def ask(here, number=0, **more):
    return asyncio.ensure_future(here.client.post(CHAT, json={"n": number}, **more))


async def held(here, count):
    await until(lambda: here.router.holder.requests == count)


async def test_held_requests_are_answered_in_order_when_they_are_released(here, stable):
    here.follow(hold={**HOLD, "releaseConcurrency": 1})
    asking = []
    for number in range(3):
        asking.append(ask(here, number))
        await held(here, number + 1)
    assert not stable.requests
    assert here.router.holder.held_bytes > 0
    here.follow()
    answers = await asyncio.gather(*asking)
    assert [one.status_code for one in answers] == [200, 200, 200]
    assert [one.json["n"] for one in stable.requests] == [0, 1, 2]
    holder = here.router.holder
    assert (holder.requests, holder.held_bytes, holder.answering) == (0, 0, 0)


async def test_no_more_are_released_at_once_than_the_capacity(here, stable):
    gate = asyncio.Event()
    answering, most = 0, 0
    plain = stable.answer

    async def slow(*arguments):
        nonlocal answering, most
        answering += 1
        most = max(most, answering)
        await gate.wait()
        answering -= 1
        await plain(*arguments)

    stable.answer = slow
    here.follow(hold={**HOLD, "releaseConcurrency": 2})
    asking = [ask(here, number) for number in range(3)]
    await held(here, 3)
    here.follow()
    await until(lambda: answering == 2)
    late = ask(here, 9)  # it does not overtake who has waited
    await until(lambda: here.router.holder.requests == 2)
    gate.set()
    answers = await asyncio.gather(*asking, late)
    assert {one.status_code for one in answers} == {200}
    assert most == 2
    assert stable.requests[-1].json["n"] in {2, 9}


@pytest.mark.parametrize(
    ("rules", "before", "body"),
    [({"maxRequests": 1}, 1, b"{}"), ({"maxBytes": 10}, 0, b"x" * 11)],
)
async def test_what_is_beyond_the_bounds_is_refused_at_once(here, rules, before, body):
    here.follow(hold={**HOLD, **rules})
    asking = [ask(here) for _ in range(before)]
    await held(here, before)
    answer = await here.client.post(CHAT, content=body)
    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "hold_full"
    assert int(answer.headers["retry-after"]) >= 1
    here.follow()
    await asyncio.gather(*asking)


async def test_a_body_of_unknown_size_is_refused_when_it_has_become_too_large(here):
    here.follow(hold={**HOLD, "maxBytes": 1000})
    more = asyncio.Event()

    async def pieces():
        yield b"x" * 900
        await more.wait()
        yield b"x" * 900

    asking = asyncio.ensure_future(here.client.post(CHAT, content=pieces()))
    await until(lambda: here.router.holder.held_bytes == 900)
    more.set()
    assert (await asking).status_code == 429
    assert here.router.holder.held_bytes == 0


async def test_who_has_waited_too_long_is_told_when_to_come_back(here):
    here.follow(hold={**HOLD, "maxSeconds": 0.05})
    answer = await ask(here)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "hold_timeout"
    assert "retry-after" in answer.headers
    assert here.router.tally.refused["hold_timeout"] == 1
    assert here.counts(STABLE).requests == 0


async def test_a_client_that_leaves_makes_room(here):
    here.follow(hold=HOLD)
    asking = ask(here)
    await held(here, 1)
    asking.cancel()
    await held(here, 0)
    assert here.router.holder.held_bytes == 0
    assert here.router.tally.clients_gone == 1


async def test_at_the_end_of_the_process_who_waits_is_sent_elsewhere(here):
    here.follow(hold=HOLD)
    asking = ask(here)
    await held(here, 1)
    here.router.holder.refuse_all()
    assert (await asking).status_code == 503
    assert here.router.holder.answering == 0


# -- whoever is to answer must be reached --------------------------------------------------------


def unused_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def lead_to(here, port):
    """The route holds no more, and leads to that port of this machine."""
    here.router.follow(route(f"http://127.0.0.1:{port}"))


@pytest.fixture
def tries(here, monkeypatch):
    """Of connections that were refused."""
    seen = []
    connect_ahead = Pool.connect_ahead

    async def noting(pool, seconds):
        try:
            await connect_ahead(pool, seconds)
        except UpstreamUnreachable:
            seen.append(pool.address)
            raise

    monkeypatch.setattr(Pool, "connect_ahead", noting)
    return seen


async def test_requests_are_held_until_whoever_is_to_answer_can_be_reached(here, tries):
    here.follow(hold=HOLD)
    asking = [ask(here), ask(here)]
    await held(here, 2)
    port = unused_port()
    lead_to(here, port)
    await until(lambda: len(tries) > 1)
    asking.append(ask(here))  # it waits, too
    await held(here, 3)
    new = Upstream("new")
    async with serving(new, port):
        answers = await asyncio.gather(*asking)
    assert [one.json() for one in answers] == [{"from": "new"}] * 3
    assert not here.router.holder.is_needed


async def test_another_route_is_reached_instead(here, stable, tries):
    here.follow(hold=HOLD)
    asking = ask(here)
    await held(here, 1)
    lead_to(here, unused_port())
    await until(lambda: tries)
    here.follow()
    assert (await asking).json() == {"from": "stable"}
    assert len(stable.requests) == 1


async def test_requests_are_held_again_while_nobody_is_reached(here, tries):
    here.follow(hold=HOLD)
    asking = ask(here)
    await held(here, 1)
    lead_to(here, unused_port())
    await until(lambda: tries)
    here.follow(hold=HOLD)
    assert here.router.holder.requests == 1
    here.follow()
    assert (await asking).status_code == 200


async def test_who_cannot_be_reached_in_time_is_waited_for_no_longer(here):
    here.follow(hold={**HOLD, "maxSeconds": 0.2})
    lead_to(here, unused_port())
    assert here.router.holder.is_needed
    await until(lambda: not here.router.holder.is_needed)
    answer = await ask(here)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "upstream_unreachable")
