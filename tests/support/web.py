"""Small servers and a router on the loop of a test, with real sockets."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from modelserver_runtime.gateway.mirror import MirrorLimits
from modelserver_runtime.gateway.route import Route, read_route
from modelserver_runtime.gateway.router import Router

LIMITS = MirrorLimits(max_concurrent=32, max_body_bytes=1 << 20, max_bytes=64 << 20)
STABLE = "a1b2c3d4"
CANARY = "d4e5f6a7"


@contextlib.asynccontextmanager
async def serving(app: Any, port: int = 0) -> AsyncIterator[str]:
    """The URL of an ASGI application; uvicorn's protocol without its server, which ends slowly."""
    config = uvicorn.Config(
        app, lifespan="off", log_config=None, access_log=False, proxy_headers=False
    )
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()

    def connect() -> HttpToolsProtocol:
        return HttpToolsProtocol(config=config, server_state=state, app_state={})

    server = await loop.create_server(connect, "127.0.0.1", port)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        for task in list(state.tasks):
            task.cancel()
        await until(lambda: not state.connections and not state.tasks)
        await server.wait_closed()


async def until(look: Callable[[], Any], seconds: float = 60) -> Any:
    """Waits on a condition of this loop."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s; last seen: {seen!r}"
        await asyncio.sleep(0.005)
    return seen


class Upstream:
    """Answers as it is told, and notes what it was asked."""

    def __init__(self, name: str, answer: "Answer | None" = None) -> None:
        self.name = name
        self.requests: list[Asked] = []
        self.gone = 0
        self.answer = answer or json_answer({"from": name})

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        asked = Asked(scope, await _body(receive))
        self.requests.append(asked)
        await self.answer(asked, receive, send)

    @property
    def real(self) -> "list[Asked]":
        return [one for one in self.requests if "x-modelserver-shadow" not in one.headers]

    @property
    def copies(self) -> "list[Asked]":
        return [one for one in self.requests if "x-modelserver-shadow" in one.headers]


class Asked:
    def __init__(self, scope: Any, body: bytes) -> None:
        self.method = scope["method"]
        self.path = scope["path"]
        self.query = scope["query_string"].decode()
        self.headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


type Answer = Callable[[Asked, Any, Any], Awaitable[None]]


async def _body(receive: Any) -> bytes:
    content = b""
    while True:
        message = await receive()
        content += message.get("body", b"")
        if not message.get("more_body"):
            return content


def json_answer(content: Any, status: int = 200) -> Answer:
    return bytes_answer(json.dumps(content).encode(), status)


def bytes_answer(body: bytes, status: int = 200, kind: str = "application/json") -> Answer:
    async def answer(_: Asked, __: Any, send: Any) -> None:
        headers = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer


def stream_answer(*events: Any, gate: asyncio.Event | None = None, after: int = 1) -> Answer:
    """Server-sent events; with a `gate`, what comes after the first ones waits for it."""

    async def answer(_: Asked, __: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for index, event in enumerate(events):
            if gate is not None and index == after:
                await gate.wait()
            text = event if isinstance(event, str) else json.dumps(event, separators=(",", ":"))
            body = f"data: {text}\n\n".encode()
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return answer


def chat_events(*words: str) -> list[Any]:
    pieces = [{"choices": [{"index": 0, "delta": {"content": word}}]} for word in words]
    return [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
        *pieces,
        "[DONE]",
    ]


def route(stable: str, canary: str = "http://127.0.0.1:9", weight: int = 0, **more: Any) -> Route:
    document = {
        "version": "1",
        "server": "chat",
        "stable": STABLE,
        "revisions": {STABLE: {"url": stable}, CANARY: {"url": canary}},
        "weights": {STABLE: 100 - weight, CANARY: weight},
        **more,
    }
    return read_route(json.dumps(document).encode())


class World:
    """A router between two upstreams, and a client before it."""

    def __init__(self, router: Router, url: str, client: httpx.AsyncClient, **urls: str) -> None:
        self.router = router
        self.url = url
        self.client = client
        self.stable_url = urls["stable_url"]
        self.canary_url = urls["canary_url"]

    def follow(self, weight: int = 0, **more: Any) -> None:
        self.router.follow(route(self.stable_url, self.canary_url, weight, **more))

    @property
    def shadow(self) -> Any:
        return self.router.tally.shadow

    def counts(self, revision: str) -> Any:
        return self.router.tally.of_revision(revision)


@contextlib.asynccontextmanager
async def world(stable: Any, canary: Any, limits: MirrorLimits = LIMITS) -> AsyncIterator[World]:
    async with contextlib.AsyncExitStack() as stack:
        start = stack.enter_async_context
        urls = {
            "stable_url": await start(serving(stable)),
            "canary_url": await start(serving(canary)),
        }
        router = Router(time.monotonic, limits)
        url = await start(serving(router))
        client = await start(httpx.AsyncClient(base_url=url, timeout=60))
        made = World(router, url, client, **urls)
        made.follow()
        yield made
        router.close()
