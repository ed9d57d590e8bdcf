"""Asking starting pods how far they are: whatever they answer, nothing breaks."""

import json
import socket

import pytest
from aiohttp import web

from modelserver_operator.cluster import progress
from modelserver_operator.cluster.progress import ProgressProbe, open_probe_session

GOOD = {
    "phase": "Fetching",
    "percent": 40,
    "doneBytes": 4,
    "totalBytes": 10,
    "etaSeconds": None,
    "message": "",
}


def a_pod(*, ready=False, phase="Running", address="127.0.0.1"):
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    status = {"phase": phase, "podIP": address, "conditions": conditions}
    return {"metadata": {"name": "chat-x"}, "status": status}


@pytest.fixture
async def ask(monkeypatch):
    """Asks one pod that answers with this body."""
    bodies = []

    async def answer(_request):
        return web.Response(body=bodies[0], status=503)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listener).start()
    monkeypatch.setattr(progress, "PORT", listener.getsockname()[1])

    async def ask(body, pod=None):
        bodies[:] = [body]
        async with open_probe_session() as session:
            return await ProgressProbe(session).read([pod or a_pod()])

    yield ask
    await runner.cleanup()


async def test_a_pod_says_how_far_it_is(ask):
    found = (await ask(json.dumps(GOOD).encode()))["chat-x"]
    assert (found.phase, found.percent, found.done_bytes, found.eta_seconds) == (
        "Fetching",
        40.0,
        4,
        None,
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"ok",
        b"[]",
        b'"text"',
        b'{"percent": "much"}',
        b'{"doneBytes": {}}',
        b'{"percent": 1, "message": "' + b"x" * 20_000 + b'"}',
    ],
)
async def test_an_answer_in_other_words_is_left_out(ask, body):
    assert await ask(body) == {}


async def test_numbers_beyond_reason_are_brought_back(ask):
    wild = GOOD | {"percent": 1e9, "doneBytes": -4, "etaSeconds": -1, "message": "x" * 5000}
    found = (await ask(json.dumps(wild).encode()))["chat-x"]
    assert (found.percent, found.done_bytes, found.eta_seconds) == (100.0, 0, 0.0)
    assert len(found.message) == progress.LONGEST_TEXT


@pytest.mark.parametrize(
    "pod", [a_pod(ready=True), a_pod(phase="Succeeded"), a_pod(address="")], ids=str
)
async def test_only_starting_pods_are_asked(ask, pod):
    assert await ask(json.dumps(GOOD).encode(), pod) == {}


async def test_a_pod_that_does_not_listen_is_left_out(monkeypatch, unused_tcp_port):
    monkeypatch.setattr(progress, "PORT", unused_tcp_port)
    async with open_probe_session() as session:
        assert await ProgressProbe(session).read([a_pod()]) == {}
