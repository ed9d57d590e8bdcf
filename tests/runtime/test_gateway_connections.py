"""What comes over a connection before there is a request: nonsense, two meanings, and nothing."""

import asyncio
import contextlib
import functools
import json

import pytest

from modelserver_runtime.gateway.front.listener import client_listener
from modelserver_runtime.process.connection import MOST_HEAD_BYTES
from modelserver_runtime.settings import load_settings
from support.web import until

pytestmark = pytest.mark.slow  # a server and sockets for every test


class App:
    """Answers with what it was sent; `gate` may keep it."""

    def __init__(self):
        self.requests = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, scope, receive, send):
        self.requests.append(scope)
        await self.gate.wait()
        if scope["path"] != "/unread":
            while (await receive()).get("more_body"):
                pass
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})


@contextlib.asynccontextmanager
async def listening(app, **settings):
    """The gateway's own listener."""
    listener = client_listener(app, load_settings(**settings))
    listener.config.port = 0
    listener.config.host = "127.0.0.1"
    task = asyncio.create_task(listener.serve())
    await until(lambda: listener.started)
    port = listener.servers[0].sockets[0].getsockname()[1]
    try:
        yield functools.partial(asyncio.open_connection, "127.0.0.1", port)
    finally:
        listener.end(1.0)
        await task


@pytest.fixture
async def app():
    return App()


async def exchange(connect, sent):
    """All that is answered until the other end closes."""
    reader, writer = await connect()
    writer.write(sent)
    try:
        return await reader.read()
    finally:
        await closed(writer)


async def closed(writer):
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


HIDDEN = b"GET /admin/keys/list HTTP/1.1\r\nhost: a\r\n\r\n"
CHUNKED = b"0\r\n\r\n" + HIDDEN
START = b"POST /x HTTP/1.1\r\nhost: a\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"content-length: 5\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        b"content-length: 5\r\ncontent-length: 6\r\n",
        b"content-length: 5, 5\r\n",
        b"content-length: +5\r\n",
        b"content-length: -5\r\n",
        b"content-length: 0x5\r\n",
        b"content-length: 5 \x0b\r\n",
        b"transfer-encoding: chunked, identity\r\n",
        b"transfer-encoding: xchunked\r\n",
        b"transfer-encoding: identity\r\n",
        b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: \r\n",
        b"transfer-encoding : chunked\r\n",
        b"transfer-encoding\r\n : chunked\r\n",
        b"content-length : 5\r\n",
        b"bad name: x\r\n",
        b"bad\x00name: x\r\n",
        b"name: a\x00b\r\n",
        b"name: a\r b\r\n",
        b": no name\r\n",
        b"no colon\r\n",
        b"na\xffme: x\r\n",
    ],
)
async def test_what_could_be_understood_in_two_ways_is_refused(app, head):
    async with listening(app) as connect:
        answer = await exchange(connect, START + head + b"connection: close\r\n\r\n" + CHUNKED)
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert b"connection: close" in answer
    assert answer.count(b"HTTP/1.1 ") == 1
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "bad_request"
    assert not any(scope["path"].startswith("/admin") for scope in app.requests)


@pytest.mark.parametrize(
    "start",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",  # TLS
        b"GET /x\r\n\r\n",
        b"POST /x HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /x HTTP/9.9\r\n\r\n",
        b"GET /x y HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_refused(app, start):
    async with listening(app) as connect:
        answer = await exchange(connect, start)
    assert answer.startswith(b"HTTP/1.1 400 "), answer


async def test_a_head_without_end_is_refused(app):
    async with listening(app) as connect:
        reader, writer = await connect()
        writer.write(START)
        with contextlib.suppress(OSError):
            for _ in range(MOST_HEAD_BYTES // 1000 * 20):
                writer.write(b"x-filler: " + b"y" * 988 + b"\r\n")
                await writer.drain()
        answer = b""
        with contextlib.suppress(OSError):
            answer = await reader.read()
        await closed(writer)
    # Who goes on sending may not get to read it.
    assert not answer or answer.startswith(b"HTTP/1.1 431 ")
    assert not app.requests


async def test_a_large_body_is_no_large_head(app):
    body = b"y" * (4 * MOST_HEAD_BYTES)
    request = START + b"content-length: %d\r\n\r\n" % len(body) + body
    async with listening(app) as connect:
        reader, writer = await connect()
        for _ in range(3):
            writer.write(request)
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
        small = b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n"
        for _ in range(2 * MOST_HEAD_BYTES // len(small)):
            writer.write(small)
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
        await closed(writer)


@pytest.mark.parametrize("begun", [START, START + b"x: y\r\nz", b"G"])
async def test_a_head_that_does_not_come_is_not_waited_for(app, begun):
    async with listening(app, head_timeout_seconds=0.3) as connect:
        answer = await exchange(connect, begun)
        assert answer.startswith(b"HTTP/1.1 408 ")


async def test_a_head_that_comes_by_the_byte_is_not_waited_for(app):
    async with listening(app, head_timeout_seconds=0.5) as connect:
        reader, writer = await connect()
        reading = asyncio.create_task(reader.read())
        with contextlib.suppress(OSError):
            for byte in START * 100:
                writer.write(bytes([byte]))
                await asyncio.wait({reading}, timeout=0.05)
                if reading.done():
                    break
        with contextlib.suppress(ConnectionResetError):  # it was still sending
            assert (await reading).startswith(b"HTTP/1.1 408 ")
        await closed(writer)


async def test_a_connection_on_which_nothing_comes_ends(app):
    async with listening(app, head_timeout_seconds=0.3) as connect:
        assert await exchange(connect, b"") == b""


async def test_a_second_head_that_does_not_come_ends_no_answer(app):
    app.gate.clear()
    async with listening(app, head_timeout_seconds=0.3) as connect:
        reader, writer = await connect()
        writer.write(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\nGET /y HT")
        reading = asyncio.create_task(reader.readuntil(b"ok"))
        await asyncio.wait({reading}, timeout=1)
        app.gate.set()
        assert (await reading).startswith(b"HTTP/1.1 200 ")
        await closed(writer)


async def test_a_body_that_nobody_reads_any_more_does_not_last_for_ever(app):
    async with listening(app, body_timeout_seconds=0.3) as connect:
        reader, writer = await connect()
        writer.write(b"POST /unread HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n")
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
        with contextlib.suppress(OSError):
            while not reader.at_eof():
                writer.write(b"y")
                with contextlib.suppress(TimeoutError):
                    assert await asyncio.wait_for(reader.read(1), 0.05) == b""
        assert reader.at_eof() or writer.is_closing() or reader.exception()
        await closed(writer)


async def test_a_body_that_ends_after_its_answer_leaves_a_good_connection(app):
    async with listening(app) as connect:
        reader, writer = await connect()
        writer.write(b"POST /unread HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab")
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
        writer.write(b"cdGET /x HTTP/1.1\r\nhost: a\r\n\r\n")
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
        await closed(writer)
