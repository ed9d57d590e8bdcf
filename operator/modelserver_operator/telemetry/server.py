"""HTTP for the kubelet and for Prometheus: /livez, /readyz and /metrics."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

type Handler = Callable[[web.Request], Awaitable[web.Response]]

# Why something is not as it should be; nothing when all is well.
type Complaints = Callable[[], Sequence[str]]


def health(complaints: Complaints) -> Handler:
    async def answer(_request: web.Request) -> web.Response:
        found = complaints()
        return web.Response(text="\n".join(found) or "ok", status=503 if found else 200)

    return answer


def metrics(registry: CollectorRegistry) -> Handler:
    async def answer(_request: web.Request) -> web.Response:
        body = generate_latest(registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    return answer


@asynccontextmanager
async def serving(routes: dict[str, Handler], port: int) -> AsyncIterator[None]:
    application = web.Application()
    application.add_routes([web.get(path, handler) for path, handler in routes.items()])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    try:
        yield
    finally:
        await runner.cleanup()
