"""The router's process: listens, follows its route, drains, ends.

SIGTERM: not ready ─▶ new requests still answered, connections closed after each (lame duck)
         ─▶ no new connections, requests under way finish (drain) ─▶ end
a second signal: end at once
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from modelserver_runtime.gateway.admin import Admin
from modelserver_runtime.gateway.metrics import renderer
from modelserver_runtime.gateway.mirror import MirrorLimits
from modelserver_runtime.gateway.route_file import RouteFile
from modelserver_runtime.gateway.router import Router
from modelserver_runtime.gateway.status import Status
from modelserver_runtime.settings import Settings

log = logging.getLogger(__name__)

# Longer than clients and proxies keep an idle connection, so that it is they who close it.
_KEEP_ALIVE_SECONDS = 75
_SIGNAL_EXIT_BASE = 128
_ADMIN_DRAIN_SECONDS = 1.0
_REFUSAL_SECONDS = 1.0
_BACKLOG = 2048

type Say = Callable[[str], None]


class _Listener(uvicorn.Server):
    """uvicorn without its own signal handling."""

    def __init__(self, app: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",
                loop="none",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,  # the revision's own is passed on
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                backlog=_BACKLOG,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def end(self, drain_seconds: float) -> None:
        """Stops listening; requests under way have `drain_seconds` to finish."""
        self.config.timeout_graceful_shutdown = drain_seconds  # type: ignore[assignment]
        self.should_exit = True


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
        self._settings = settings
        self._say = say
        self._stop = asyncio.Event()
        self._signal: signal.Signals | None = None
        self._router = Router(time.monotonic, _limits(settings))  # noqa: TID251  the shell's clock
        self._route_file = RouteFile(path, self._router.follow, self._router.tally)

    async def run(self, listening: socket.socket, admin_listening: socket.socket) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number)
        self._route_file.look()
        clients, admin = _Listener(self._router), _Listener(self._admin())
        serving = asyncio.ensure_future(clients.serve(sockets=[listening]))
        administering = asyncio.ensure_future(admin.serve(sockets=[admin_listening]))
        self._say(f"Listening on {_url(listening)}; administration on {_url(admin_listening)}")
        watching = asyncio.ensure_future(self._route_file.watch(self._stop))
        await self._stop.wait()
        await self._drain(clients, serving)
        admin.end(_ADMIN_DRAIN_SECONDS)
        await asyncio.gather(serving, administering, watching)

    def _admin(self) -> Admin:
        started = datetime.now(UTC)  # noqa: TID251  as above
        status = Status(router=self._router, route_file=self._route_file, started_at=started)
        return Admin(status, renderer(status))

    def _on_signal(self, number: signal.Signals) -> None:
        if self._signal is not None:
            log.warning("A second signal: ending at once")
            os._exit(_SIGNAL_EXIT_BASE + number)
        self._signal = number
        self._stop.set()

    async def _drain(self, clients: _Listener, serving: "asyncio.Future[None]") -> None:
        self._router.is_draining = True
        total = self._settings.drain_seconds
        # The requests that run when the listener closes keep half of the time at least.
        is_interactive = self._signal is signal.SIGINT
        lame_duck = 0.0 if is_interactive else min(self._settings.lame_duck_seconds, total / 2)
        self._say(f"Draining for at most {total:.0f} s; a second signal ends at once")
        await asyncio.wait({serving}, timeout=lame_duck)
        clients.end(total - lame_duck)
        # Who still waits for a revision has the rest of the time, but for that of its refusal.
        await asyncio.wait({serving}, timeout=max(0.0, total - lame_duck - _REFUSAL_SECONDS))
        self._router.holder.refuse_all()
        await asyncio.wait({serving})
        self._router.close()


def _limits(settings: Settings) -> MirrorLimits:
    return MirrorLimits(
        max_concurrent=settings.shadow_max_concurrent,
        max_body_bytes=settings.shadow_max_body_bytes,
        max_bytes=settings.shadow_max_bytes,
    )


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
