"""Asking pods what they have counted: whatever they answer, nothing breaks."""

import json
import socket

import pytest
from aiohttp import web

from modelserver_operator.cluster import readings
from modelserver_operator.cluster.progress import open_probe_session
from modelserver_operator.cluster.readings import ReadingProbe, model_answer, router_answer
from modelserver_operator.plan.answers import NOTHING_HEARD, Histogram, Questions

COUNTED = {
    "requests": 20,
    "errors": 2,
    "latency": [15, 3, 2],
    "firstToken": [0, 0, 0],
    "tokenGaps": [0, 0, 0],
}
ROUTER = {
    "version": "3f2a9c11",
    "startedAt": "2026-11-21T10:00:00Z",
    "edgesSeconds": [0.1, 1.0],
    "revisions": {"a1b2c3d4": COUNTED},
    "shadow": {"pairs": 9, "disagreed": 1, "baselinePairs": 3, "baselineDisagreed": 0},
}
MODEL = """
# HELP modelserver_requests_total Requests answered, by route and status code
# TYPE modelserver_requests_total counter
modelserver_requests_total{route="/v1/a",code="200"} 17.0
modelserver_requests_total{route="/v1/b",code="500"} 2.0
modelserver_requests_total{route="/v1/b",code="404"} 1.0
modelserver_request_duration_seconds_bucket{route="/v1/a",le="0.1"} 10.0
modelserver_request_duration_seconds_bucket{route="/v1/a",le="1.0"} 15.0
modelserver_request_duration_seconds_bucket{route="/v1/a",le="+Inf"} 17.0
modelserver_request_duration_seconds_bucket{route="/v1/b",le="0.1"} 3.0
modelserver_request_duration_seconds_bucket{route="/v1/b",le="1.0"} 3.0
modelserver_request_duration_seconds_bucket{route="/v1/b",le="+Inf"} 3.0
process_start_time_seconds 1.7957592e+09
modelserver_queue_depth 4.0
"""


def a_pod(name="chat-router-1", address="127.0.0.1"):
    return {"metadata": {"name": name}, "status": {"podIP": address}}


def dumped(**changes):
    return json.dumps(ROUTER | changes).encode()


@pytest.fixture
async def ask(monkeypatch):
    """Asks one router that answers with this body."""
    answers = []

    async def answer(_request):
        status, body = answers[0]
        return web.Response(body=body, status=status)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listener).start()
    monkeypatch.setattr(readings, "ROUTER_PORT", listener.getsockname()[1])
    monkeypatch.setattr(readings, "MODEL_PORT", listener.getsockname()[1])

    async def ask(body, *, status=200, **questions):
        answers[:] = [(status, body)]
        async with open_probe_session() as session:
            asked = Questions(**(questions or {"routers": ("chat-router-1",)}))
            return await ReadingProbe(session).read([a_pod()], asked)

    yield ask
    await runner.cleanup()


async def test_a_router_says_what_it_has_counted(ask):
    answer = (await ask(dumped())).routers["chat-router-1"]
    assert answer.version == "3f2a9c11"
    tally = answer.tallies["a1b2c3d4"]
    assert (tally.requests, tally.errors, tally.latency.count) == (20, 2, 20)
    assert (answer.copies.pairs, answer.copies.disagreed) == (9, 1)


async def test_a_models_pod_says_what_it_has_counted(ask):
    answer = (await ask(MODEL.encode(), models=("chat-router-1",))).models["chat-router-1"]
    assert (answer.tally.requests, answer.tally.errors) == (20, 2)
    assert answer.tally.latency.buckets == (13, 5, 2)
    assert answer.began is not None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"text"',
        b"{}",
        dumped(startedAt="yesterday"),
        dumped(edgesSeconds="many"),
        dumped(edgesSeconds=[0.1]),
        dumped(revisions=[]),
        dumped(revisions={"a1b2c3d4": COUNTED | {"requests": -1}}),
        dumped(revisions={"a1b2c3d4": COUNTED | {"requests": 1e300}}),
        dumped(revisions={"a1b2c3d4": COUNTED | {"errors": "few"}}),
        dumped(shadow={"pairs": {}}),
        dumped(filler="x" * readings.MOST_BYTES),
    ],
    ids=range(13),
)
async def test_an_answer_in_other_words_is_left_out(ask, body):
    assert await ask(body) == NOTHING_HEARD


async def test_an_answer_that_is_a_failure_is_left_out(ask):
    assert await ask(dumped(), status=503) == NOTHING_HEARD


async def test_only_pods_that_are_asked_for_are_asked(ask):
    assert await ask(dumped(), routers=("chat-router-2",)) == NOTHING_HEARD


async def test_a_pod_that_does_not_listen_is_left_out(monkeypatch, unused_tcp_port):
    monkeypatch.setattr(readings, "ROUTER_PORT", unused_tcp_port)
    async with open_probe_session() as session:
        asked = Questions(routers=("chat-router-1",))
        assert await ReadingProbe(session).read([a_pod()], asked) == NOTHING_HEARD


def test_text_that_does_not_say_since_when_it_counts_is_no_answer():
    with pytest.raises(ValueError, match="process_start_time_seconds"):
        model_answer(b'modelserver_requests_total{route="/",code="200"} 1\n')


def test_text_of_a_server_before_its_first_request_is_an_answer():
    assert model_answer(b"process_start_time_seconds 1.0\n").tally.requests == 0


def test_a_router_that_has_seen_nothing_is_an_answer():
    assert router_answer(dumped(revisions={}, shadow={})).tallies == {}


@pytest.mark.parametrize(("seconds", "slow"), [(0.05, 5), (0.1, 5), (0.3, 2), (1.0, 2), (7.0, 0)])
def test_slow_is_counted_from_the_next_edge(seconds, slow):
    seen = Histogram(edges_seconds=(0.1, 1.0), buckets=(15, 3, 2))
    assert seen.above(seconds) == slow


@pytest.mark.parametrize(
    ("buckets", "edge"),
    [((18, 2, 0), 0.1), ((17, 3, 0), 1.0), ((5, 5, 10), None), ((9, 1, 0), None)],
    ids=["exactly", "more", "beyond all edges", "too few"],
)
def test_a_quantile_is_an_edge(buckets, edge):
    assert Histogram(edges_seconds=(0.1, 1.0), buckets=buckets).quantile_edge(0.9) == edge
