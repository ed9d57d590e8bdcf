"""The gateway of a cluster as a process: what it says without an API, with one, and at its end."""

import asyncio
import re
import signal
import socket

import httpx
import pytest

from support.played_api import PlayedApi, has
from support.runtime_process import runtime_process
from support.web import Upstream, serving, until

pytestmark = pytest.mark.slow  # starts processes

LISTENING = "Listening on (http://[^;]+); administration on (http://.+)"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as made:
        return made.getsockname()[1]


@pytest.fixture
async def pod():
    upstream = Upstream("pod")
    async with serving(upstream) as url:
        upstream.port = int(url.rpartition(":")[2])
        yield upstream


@pytest.fixture
async def api():
    made = PlayedApi()
    async with serving(made) as url:
        made.url = url
        yield made


async def test_it_says_what_it_lacks_then_serves_and_ends_when_told(api, pod):
    api.status = 403
    port = free_port()
    arguments = ("--cluster", "--port", "0", "--admin-port", "0", "--kubernetes-url", api.url)
    files = ("--kubernetes-token-file", "/dev/null", "--lame-duck-seconds", "0")
    with runtime_process("modelserver_runtime", "gateway", *arguments, *files) as process:
        line = await asyncio.to_thread(process.wait_for_line, "Listening on")
        front, admin = re.search(LISTENING, line).groups()
        async with httpx.AsyncClient(timeout=60) as client:
            await _until_reason(client, admin, "forbidden")
            has(api, pod, port)
            api.status = 200
            await _until_ready(client, admin)
            body = {"model": "chat"}
            answer = await client.post(f"{front}/v1/chat/completions", json=body)
            assert answer.json() == {"from": "pod"}
            answer = await client.get(f"http://127.0.0.1:{port}/anything")
            assert answer.json() == {"from": "pod"}
            metrics = (await client.get(f"{admin}/metrics")).text
            assert 'modelserver_gateway_models{state="ready"} 1.0' in metrics
            assert 'modelserver_gateway_requests_total{code="2xx",namespace="models"' in metrics
            page = await client.get(front)
            assert "models/chat" in page.text
        process.process.send_signal(signal.SIGTERM)
        await until(lambda: process.process.poll() is not None)
        assert process.process.poll() == 0, process.output


async def test_without_a_page_the_root_is_a_models(api, pod):
    has(api, pod, free_port())
    arguments = ("--cluster", "--port", "0", "--admin-port", "0", "--kubernetes-url", api.url)
    more = ("--kubernetes-token-file", "/dev/null", "--page", "false")
    with runtime_process("modelserver_runtime", "gateway", *arguments, *more) as process:
        line = await asyncio.to_thread(process.wait_for_line, "Listening on")
        front, admin = re.search(LISTENING, line).groups()
        async with httpx.AsyncClient(timeout=60) as client:
            await _until_ready(client, admin)
            for path in ("/", "/page/page.js"):
                assert (await client.get(front + path)).json() == {"from": "pod"}


async def _until_reason(client, admin, words):
    async def look():
        answer = await client.get(f"{admin}/readyz")
        return answer.status_code == 503 and words in answer.json()["reason"]

    await _until(look)


async def _until_ready(client, admin):
    async def look():
        return (await client.get(f"{admin}/readyz")).status_code == 200

    await _until(look)


async def _until(look):
    for _ in range(1200):
        if await look():
            return
        await asyncio.sleep(0.1)
    pytest.fail("not within two minutes")


@pytest.mark.parametrize("arguments", [("--cluster", "--route", "route.json")])
def test_a_route_and_a_cluster_together_are_refused(arguments):
    with runtime_process("modelserver_runtime", "gateway", *arguments) as process:
        assert process.process.wait(120) == 2
        assert "--route and --cluster" in process.output
