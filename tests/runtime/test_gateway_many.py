"""Ten thousand connections at once, most of which want nothing good: the others are served."""

import asyncio
import contextlib
import re
import resource

import httpx
import pytest

from support.played_api import PlayedApi, has
from support.runtime_process import runtime_process
from support.web import Upstream, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CONNECTIONS = 10_000
AT_ONCE = 200
# What each kind sends, and then nothing more.
BEGINNINGS = (
    b"",
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nx-y",
    b'POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 99\r\n\r\n{"messages": "',
)
ASKED = 100
# How long they may stay: longer than it all takes on a busy machine. That they end is tested for
# each kind in test_gateway_connections.py.
SECONDS = "800"
FILES = CONNECTIONS + 1000  # of the process that is asked, and of this one


@pytest.fixture(autouse=True)
def _enough_files():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < FILES:
        pytest.skip(f"a process may have {before[1]} files here, {FILES} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextlib.asynccontextmanager
async def many_connections(host, port):
    """All of them stay open until the end."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number):
        async with room:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(BEGINNINGS[number % len(BEGINNINGS)])
            await writer.drain()
            return reader, writer

    opened = await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))
    try:
        yield opened
    finally:
        for _, writer in opened:
            writer.close()
        for _, writer in opened:
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def test_ten_thousand_connections_keep_nobody_from_being_served():
    api, pod = PlayedApi(), Upstream("pod")
    async with serving(api) as api.url, serving(pod) as pod_url:
        pod.port = int(pod_url.rpartition(":")[2])
        has(api, pod)
        with gateway_at(api.url) as process:
            line = await asyncio.to_thread(process.wait_for_line, "Listening on")
            port = int(re.search(r"http://127.0.0.1:(\d+);", line)[1])
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", timeout=120
            ) as client:
                await _until_served(client)
                async with many_connections("127.0.0.1", port) as opened:
                    assert not any(reader.at_eof() for reader, _ in opened)
                    answers = await asyncio.gather(*(_ask(client) for _ in range(ASKED)))
                    assert [answer.status_code for answer in answers] == [200] * ASKED
                    assert not any(reader.at_eof() for reader, _ in opened)
                assert (await _ask(client)).status_code == 200
            assert process.process.poll() is None, process.output


def gateway_at(url):
    arguments = ("--cluster", "--port", "0", "--admin-port", "0", "--kubernetes-url", url)
    files = ("--kubernetes-token-file", "/dev/null", "--client-requests-per-minute", "0")
    patience = ("--head-timeout-seconds", SECONDS, "--body-timeout-seconds", SECONDS)
    return runtime_process("modelserver_runtime", "gateway", *arguments, *files, *patience)


async def _ask(client):
    return await client.post("/v1/chat/completions", json={"model": "chat"})


async def _until_served(client):
    async def look():
        return (await _ask(client)).status_code == 200

    for _ in range(1200):
        if await look():
            return
        await asyncio.sleep(0.1)
    pytest.fail("not within two minutes")
