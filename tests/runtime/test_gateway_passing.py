"""The router passes requests and answers through, unchanged but for what a router adds."""

import asyncio
import contextlib
import math

import httpx
import pytest

from support.web import (
    CANARY,
    STABLE,
    Upstream,
    bytes_answer,
    chat_events,
    json_answer,
    stream_answer,
    until,
    world,
)

pytestmark = pytest.mark.slow  # a server and sockets for nearly every test

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


@contextlib.asynccontextmanager
async def raw_upstream(talk):
    """A server that does what `talk` does with the bytes of a connection."""
    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        server.close_clients()


def at_canary(here, url, **more):
    here.canary_url = url
    here.follow(weight=100, **more)


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


async def test_what_belongs_to_one_connection_or_to_the_router_does_not_pass(here, stable):
    sent = {
        "connection": "x-mine, keep-alive",
        "x-mine": "1",
        "te": "trailers",
        "x-modelserver-shadow": "true",
        "x-forwarded-for": "1.2.3.4",
        "x-request-id": "mine-1",
    }
    await here.client.get("/v1/models", headers=sent)
    got = stable.requests[0].headers
    assert not {"x-mine", "te", "x-modelserver-shadow"} & set(got)
    assert got["x-forwarded-for"] == "1.2.3.4, 127.0.0.1"
    assert got["x-request-id"] == "mine-1"


@pytest.mark.parametrize("size", [0, 100, 300_000, 3_000_000])
@pytest.mark.parametrize("is_chunked", [True, False])
async def test_bodies_of_any_size_pass_both_ways(here, stable, size, is_chunked):
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    stable.answer = bytes_answer(body, kind="application/octet-stream")

    async def pieces():
        for start in range(0, len(body), 50_000):
            yield body[start : start + 50_000]

    answer = await here.client.post("/x", content=pieces() if is_chunked else body)
    assert stable.requests[0].body == body
    assert answer.content == body


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS", "PUT"])
async def test_every_method_passes_and_connections_are_kept(here, stable, method):
    for _ in range(3):
        answer = await here.client.request(method, "/x")
        assert answer.status_code == 200
    assert [one.method for one in stable.requests] == [method] * 3


@pytest.mark.parametrize("status", [204, 304, 404, 429, 500, 503])
async def test_every_status_passes(here, stable, status):
    stable.answer = bytes_answer(b"" if status in {204, 304} else b"{}", status)
    answer = await here.client.post("/x", json={})
    assert answer.status_code == status
    assert here.counts(STABLE).errors == (status >= 500)


@pytest.mark.slow
async def test_weights_divide_requests_and_a_change_loses_none(here, stable, canary):
    share, count = 0.25, 400
    here.follow(weight=0)

    async def ask(number: int) -> int:
        if number == count // 4:
            here.follow(weight=25)
        return (await here.client.post(CHAT, json={})).status_code

    limit = asyncio.Semaphore(8)

    async def limited(number: int) -> int:
        async with limit:
            return await ask(number)

    statuses = await asyncio.gather(*map(limited, range(count)))
    assert set(statuses) == {200}
    assert len(stable.requests) + len(canary.requests) == count
    expected = share * count * 3 / 4
    assert abs(len(canary.requests) - expected) < 3 * math.sqrt(expected * (1 - share))
    assert here.counts(CANARY).requests == len(canary.requests)


async def test_a_stream_passes_piece_by_piece(here, stable):
    gate = asyncio.Event()
    stable.answer = stream_answer(*chat_events("a", "b", "c"), gate=gate, after=2)
    async with here.client.stream("POST", CHAT, json={}) as answer:
        lines = answer.aiter_lines()
        seen = [line async for line in _first(lines, 4)]
        assert '"content":"a"' in "".join(seen)
        assert not gate.is_set()
        gate.set()
        rest = [line async for line in lines]
    assert "data: [DONE]" in rest
    counts = here.counts(STABLE)
    assert sum(counts.first_token.buckets) == 1
    assert sum(counts.token_gaps.buckets) == 2
    assert sum(counts.latency.buckets) == 1


async def _first(lines, count):
    for _ in range(count):
        yield await anext(lines)


async def test_a_client_that_leaves_ends_the_work(here, stable):
    ended = asyncio.Event()

    async def forever(_, receive, send):
        start = {"type": "http.response.start", "status": 200, "headers": []}
        await send(start)
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        assert (await receive())["type"] == "http.disconnect"
        ended.set()

    stable.answer = forever
    async with here.client.stream("POST", CHAT, json={}) as answer:
        assert await anext(answer.aiter_raw()) == b"x"
    async with asyncio.timeout(60):
        await ended.wait()
    await until(lambda: here.router.tally.clients_gone)
    assert here.counts(STABLE).errors == 0
    assert here.counts(STABLE).in_flight == 0


async def test_a_client_that_leaves_before_its_answer_is_no_error(here, stable):
    ended = asyncio.Event()

    async def never(_, receive, __):
        assert (await receive())["type"] == "http.disconnect"
        ended.set()

    stable.answer = never
    asking = asyncio.ensure_future(here.client.post(CHAT, json={}))
    await until(lambda: stable.requests)
    asking.cancel()
    async with asyncio.timeout(60):
        await ended.wait()
    await until(lambda: here.router.tally.clients_gone)
    assert (here.counts(STABLE).requests, here.counts(STABLE).errors) == (0, 0)


@pytest.mark.slow
async def test_a_slow_reader_holds_the_revision_back(here, stable):
    """What nobody reads does not pile up in the router."""
    sent = 0

    async def much(_, __, send):
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(4000):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            sent += 1
        await send({"type": "http.response.body", "body": b""})

    stable.answer = much
    host, port = here.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    writer.write(b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")
    await reader.readline()
    before = -1
    while sent != before:  # it stands still
        before = sent
        for _ in range(50):
            await asyncio.sleep(0.002)
    assert sent < 4000
    while sent < 4000:
        assert await reader.read(1 << 20)
    writer.close()


async def test_a_revision_that_refuses_connections_costs_no_client_anything(here, stable):
    at_canary(here, "http://127.0.0.1:9")
    for _ in range(5):
        answer = await here.client.post(CHAT, json={"n": 1})
        assert answer.status_code == 200
        assert answer.headers["x-modelserver-revision"] == STABLE
    counts = here.counts(CANARY)
    assert (counts.requests, counts.errors, counts.no_answer, counts.fallbacks) == (5, 5, 5, 5)
    assert here.counts(STABLE).requests == 0


async def test_a_request_that_reached_a_revision_is_not_sent_twice(here, stable):
    asked = 0

    async def hang_up(reader, writer):
        nonlocal asked
        await reader.readuntil(b"\r\n\r\n")
        asked += 1
        writer.close()

    async with raw_upstream(hang_up) as url:
        at_canary(here, url)
        answer = await here.client.post(CHAT, json={})
        assert answer.status_code == 502
        assert answer.json()["error"]["code"] == "upstream_broken"
        assert (asked, len(stable.requests)) == (1, 0)
        for headers, method in (({}, "GET"), ({"idempotency-key": "1"}, "POST")):
            answer = await here.client.request(method, CHAT, headers=headers)
            assert answer.headers["x-modelserver-revision"] == STABLE
    assert (here.counts(CANARY).errors, here.counts(CANARY).fallbacks) == (3, 2)


async def test_an_answer_that_breaks_off_is_not_passed_as_a_whole_one(here):
    async def half(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await writer.drain()
        writer.close()

    async with raw_upstream(half) as url:
        at_canary(here, url)
        with pytest.raises(httpx.RemoteProtocolError):
            await here.client.post(CHAT, json={})
    counts = here.counts(CANARY)
    assert (counts.requests, counts.errors, counts.no_answer) == (1, 1, 1)
    assert sum(counts.latency.buckets) == 0


@pytest.mark.parametrize("answer", [b"what?\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000])
async def test_what_is_no_answer_is_none(here, answer):
    async def babble(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    async with raw_upstream(babble) as url:
        at_canary(here, url)
        assert (await here.client.post(CHAT, json={})).status_code == 502


async def test_an_answer_may_begin_with_early_words_and_end_with_its_connection(here):
    async def old_style(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nhello")
        await writer.drain()
        writer.close()

    async with raw_upstream(old_style) as url:
        at_canary(here, url)
        for _ in range(2):
            answer = await here.client.post(CHAT, json={})
            assert (answer.status_code, answer.text) == (200, "hello")


async def test_a_silent_revision_is_given_up(here, stable, monkeypatch):
    monkeypatch.setattr("modelserver_runtime.gateway.passing.GRACE_SECONDS", 0.0)

    async def silent(_, receive, __):
        await receive()

    stable.answer = silent
    here.follow(timeoutSeconds=0.05)
    answer = await here.client.post(CHAT, json={})
    assert answer.status_code == 504
    assert here.counts(STABLE).no_answer == 1


async def test_when_nobody_can_be_reached_the_protocol_of_the_path_says_so(here):
    here.stable_url = "http://127.0.0.1:9"
    here.follow()
    answer = await here.client.post(CHAT, json={})
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "server_error")
    assert answer.headers["retry-after"] == "1"
    v2 = await here.client.post("/v2/models/m/infer", json={})
    assert isinstance(v2.json()["error"], str)


async def test_a_cookie_tells_who_answered_and_is_believed_later(here):
    here.follow(weight=50, sticky={"cookie": "track", "seconds": 60})
    first = await here.client.post(CHAT, json={})
    revision = first.headers["x-modelserver-revision"]
    assert first.headers["set-cookie"].startswith(f"track={revision}; Max-Age=60;")
    for _ in range(6):  # the client has kept it
        answer = await here.client.post(CHAT, json={})
        assert answer.headers["x-modelserver-revision"] == revision
        assert "set-cookie" not in answer.headers


async def test_experiments_are_counted_by_themselves(here, canary):
    beta = {"name": "beta", "revision": CANARY, "header": {"name": "x-track", "value": "beta"}}
    here.follow(experiments=[beta])
    canary.answer = json_answer({}, 500)
    answer = await here.client.post(CHAT, json={}, headers={"x-track": "beta"})
    assert answer.headers["x-modelserver-revision"] == CANARY
    counted = here.router.tally.of_experiment("beta")
    assert (counted.requests, counted.errors) == (1, 1)
    assert here.counts(CANARY).requests == 0


async def test_an_early_answer_ends_an_upload(here):
    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await writer.drain()
        writer.close()

    async with raw_upstream(refuse) as url:
        at_canary(here, url)
        host, port = here.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nabc")
        assert b"413" in await reader.readline()
        writer.close()
