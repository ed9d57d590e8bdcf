"""Queries and webhooks: what passes, what fails, and what is no decision."""

import json
import socket
from urllib.parse import parse_qs

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver

from modelserver_operator.apis.rollout import QueryCheck, WebhookCheck
from modelserver_operator.cluster.checks import CheckProbe
from modelserver_operator.cluster.prometheus import Prometheus
from modelserver_operator.plan.checking import Checks, checks_of
from support.running_world import running_world

WORDS = {"SERVER": "chat", "CANARY": "d4e5f6a7", "WINDOW": "15s"}
AT_MOST_ONE = QueryCheck(name="queue", query='max(depth{r="$CANARY"}[$WINDOW])', max="1")


def vector(*values):
    result = [{"metric": {}, "value": [0, value]} for value in values]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


class Here(AbstractResolver):
    """Every name is this machine; which ones were asked for is remembered."""

    def __init__(self):
        self.asked = []

    async def resolve(self, host, port=0, family=socket.AF_INET):
        self.asked.append(host)
        found = {"hostname": host, "host": "127.0.0.1", "port": port, "proto": 0, "flags": 0}
        return [found | {"family": family}]

    async def close(self):
        pass


class Others:
    """Whoever is asked: one answer for everything, and what was asked."""

    def __init__(self):
        self.status, self.body, self.requests = 200, b"", []
        self.resolver = Here()

    async def answer(self, request):
        self.requests.append((request.path, dict(request.query), await request.text()))
        return web.Response(status=self.status, body=self.body)


@pytest.fixture
async def others():
    asked = Others()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", asked.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listener).start()
    asked.port = listener.getsockname()[1]
    yield asked
    await runner.cleanup()


async def ask(others, checks, *, prometheus=True):
    connector = aiohttp.TCPConnector(resolver=others.resolver, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        url = f"http://127.0.0.1:{others.port}/" if prometheus else ""
        asked = Prometheus(session, url)
        probe = CheckProbe(session, prometheus=asked, cluster_domain="cluster.local")
        (answer,) = await probe.ask(checks)
    return answer


def one_query(**changes):
    return Checks(
        namespace="models", queries=(AT_MOST_ONE.model_copy(update=changes),), words=WORDS
    )


def one_webhook(others):
    check = WebhookCheck(name="load", service="gate", port=others.port, path="/judge")
    return Checks(namespace="models", webhooks=(check,), state={"canary": "d4e5f6a7"})


@pytest.mark.parametrize(
    ("found", "bounds", "passed"),
    [
        (vector("0.5"), {}, True),
        (vector("1"), {}, True),
        (vector("1.5"), {}, False),
        (vector("0.5"), {"min": "0.6"}, False),
        ({"status": "success", "data": {"resultType": "scalar", "result": [0, "2"]}}, {}, False),
        (vector("NaN"), {}, None),
        (vector(), {}, None),
        (vector("1", "2"), {}, None),
        ({"status": "success", "data": {"resultType": "matrix", "result": []}}, {}, None),
        ({"status": "error", "error": "parse error"}, {}, None),
        ({}, {}, None),
    ],
    ids=range(11),
)
async def test_a_query_passes_between_its_bounds(others, found, bounds, passed):
    others.body = json.dumps(found).encode()
    answer = await ask(others, one_query(**bounds))
    assert answer.passed is passed
    assert answer.message


async def test_words_of_a_query_stand_for_the_rollout(others):
    others.body = json.dumps(vector("0")).encode()
    await ask(others, one_query())
    ((path, _, form),) = others.requests
    assert path == "/api/v1/query"
    assert parse_qs(form) == {"query": ['max(depth{r="d4e5f6a7"}[15s])']}


async def test_without_a_prometheus_no_query_is_decided(others):
    answer = await ask(others, one_query(), prometheus=False)
    assert answer.passed is None
    assert "MODELSERVER_OPERATOR_PROMETHEUS_URL" in answer.message
    assert others.requests == []


@pytest.mark.parametrize(
    ("status", "passed"), [(200, True), (403, False), (204, None), (302, None), (500, None)]
)
async def test_a_webhook_passes_with_200_and_fails_with_403(others, status, passed):
    others.status = status
    assert (await ask(others, one_webhook(others))).passed is passed


async def test_a_webhook_is_a_service_of_the_namespace_and_gets_the_state(others):
    await ask(others, one_webhook(others))
    assert others.resolver.asked == ["gate.models.svc.cluster.local"]
    ((path, _, body),) = others.requests
    assert (path, json.loads(body)) == ("/judge", {"canary": "d4e5f6a7"})


async def test_an_answer_without_end_is_no_decision(others):
    others.body = b"x" * 1_000_000
    assert (await ask(others, one_query())).passed is None


CHECKS = {"webhooks": [{"name": "load", "service": "gate"}]}


def due(**run):
    world, *_ = running_world(**run)
    world.change(rollout={"strategy": "Canary", "analysis": CHECKS})
    plan = world.plan()
    assert plan.wish is not None
    return checks_of(world.server(), plan.wish, world.now)


def test_webhooks_are_told_which_rollout_it_is():
    checks = due()
    assert [one.name for one in checks.webhooks] == ["load"]
    assert checks.state["weightPercent"] == 20
    assert checks.namespace == "models"


@pytest.mark.parametrize("run", [{"phase": "Stepping"}, {"countedAt": "2026-11-21T12:00:00Z"}])
def test_nobody_is_asked_before_an_answer_is_needed(run):
    assert not due(**run)
