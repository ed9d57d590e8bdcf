"""The router's process: listens, follows its route, and ends as `process.ending` says."""

import asyncio
import logging
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from modelserver_runtime.gateway.admin import Admin
from modelserver_runtime.gateway.metrics import renderer
from modelserver_runtime.gateway.mirror import MirrorLimits
from modelserver_runtime.gateway.route_file import RouteFile
from modelserver_runtime.gateway.router import Router
from modelserver_runtime.gateway.status import Status
from modelserver_runtime.process.ending import Ending, Say
from modelserver_runtime.process.listener import Listener
from modelserver_runtime.settings import Settings

_ADMIN_DRAIN_SECONDS = 1.0
_REFUSAL_SECONDS = 1.0


def run_router(
    settings: Settings, path: Path, sockets: tuple[socket.socket, socket.socket], say: Say
) -> None:
    """`sockets` are the clients' and the one for administration. Returns when drained."""
    # A cut answer and a client's bad request are told in our own log, or in none.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    process = _Process(settings, path, say)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(process.run(*sockets))


class _Process:
    def __init__(self, settings: Settings, path: Path, say: Say) -> None:
        self._say = say
        self._ending = Ending(settings, say)
        self._router = Router(time.monotonic, _limits(settings))  # noqa: TID251  the shell's clock
        self._route_file = RouteFile(path, self._router.follow, self._router.tally)

    async def run(self, listening: socket.socket, admin_listening: socket.socket) -> None:
        self._ending.hear_signals()
        self._route_file.look()
        clients, admin = _listener(self._router), _listener(self._admin())
        serving = asyncio.ensure_future(clients.serve(sockets=[listening]))
        administering = asyncio.ensure_future(admin.serve(sockets=[admin_listening]))
        self._say(f"Listening on {_url(listening)}; administration on {_url(admin_listening)}")
        watching = asyncio.ensure_future(self._route_file.watch(self._ending.is_due))
        await self._ending.is_due.wait()
        await self._drain(clients, serving)
        admin.end(_ADMIN_DRAIN_SECONDS)
        await asyncio.gather(serving, administering, watching)

    def _admin(self) -> Admin:
        started = datetime.now(UTC)  # noqa: TID251  as above
        status = Status(router=self._router, route_file=self._route_file, started_at=started)
        return Admin(status, renderer(status))

    async def _drain(self, clients: Listener, serving: "asyncio.Future[None]") -> None:
        left = await self._ending.drain(clients, serving, self._router.begin_drain)
        # Who still waits for a revision has the rest of the time, but for that of its refusal.
        await asyncio.wait({serving}, timeout=max(0.0, left - _REFUSAL_SECONDS))
        self._router.holder.refuse_all()
        await asyncio.wait({serving})
        self._router.close()


def _listener(app: Any) -> Listener:
    """Dates are the revisions' own, and are passed on."""
    return Listener(app, ws="none", date_header=False)


def _limits(settings: Settings) -> MirrorLimits:
    return MirrorLimits(
        max_concurrent=settings.shadow_max_concurrent,
        max_body_bytes=settings.shadow_max_body_bytes,
        max_bytes=settings.shadow_max_bytes,
    )


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
