"""The serving process: listens at once, loads, serves, drains, ends.

SIGTERM: not ready ─▶ new requests still answered, connections closed after each (lame duck)
         ─▶ no new connections, requests that are running finish (drain) ─▶ end
Ctrl-C:  the same without the lame duck, since no load balancer has to notice
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
from typing import Any

import uvicorn

from modelserver_runtime.app.application import create_asgi, create_context
from modelserver_runtime.app.listening import BACKLOG
from modelserver_runtime.app.loader import Load, load_in_thread, load_to_stay
from modelserver_runtime.artifacts import print_progress
from modelserver_runtime.backends.base import LoadedModel
from modelserver_runtime.engine.service import ModelService
from modelserver_runtime.errors import RuntimeCrash, StartupFailure
from modelserver_runtime.rest.context import ServerContext
from modelserver_runtime.settings import Settings

log = logging.getLogger(__name__)

# Longer than clients and proxies keep an idle connection, so that it is they who close it.
_KEEP_ALIVE_SECONDS = 75
# For requests that are failing because there is no model.
_CRASH_DRAIN_SECONDS = 2.0
_WORKER_STOP_SECONDS = 1.0
_SIGNAL_EXIT_BASE = 128

type Say = Callable[[str], None]


class _Listener(uvicorn.Server):
    """uvicorn without its own signal handling."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def end(self, drain_seconds: float) -> None:
        """Stops listening; running requests have `drain_seconds` to finish. Only once."""
        if self.should_exit:
            return
        self.config.timeout_graceful_shutdown = drain_seconds  # type: ignore[assignment]
        self.should_exit = True


def serve(settings: Settings, listening: socket.socket, load_model: Load, say: Say) -> None:
    """Returns when drained; raises StartupFailure if the model cannot be served."""
    context = create_context(settings, clock=time.monotonic, wall_clock=time.time)  # noqa: TID251
    config = uvicorn.Config(
        create_asgi(context),
        http="httptools",
        loop="uvloop",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # It would believe every proxy on this machine; `access.addresses` asks the settings.
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        backlog=BACKLOG,
    )
    process = _Process(context, _Listener(config), say)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        try:
            runner.run(process.run(load_model, listening))
        finally:
            if context.tracer is not None:
                context.tracer.close()


class _Process:
    def __init__(self, context: ServerContext, listener: _Listener, say: Say) -> None:
        self._context = context
        self._settings = context.settings
        self._listener = listener
        self._say = say
        self._stop = asyncio.Event()
        self._signal: signal.Signals | None = None

    async def run(self, load_model: Load, listening: socket.socket) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number)
        host, port = listening.getsockname()[:2]
        self._say(f"Listening on http://{host}:{port}; loading {self._settings.api_name}")
        serving = asyncio.ensure_future(self._listener.serve(sockets=[listening]))
        # If nobody listens any more there is nothing left to do.
        serving.add_done_callback(lambda _: self._stop.set())
        try:
            service = await self._start(load_model)
            if service is not None:
                self._announce(service, f"http://{host}:{port}")
                await self._until_end(service, serving)
        except StartupFailure as failure:
            self._context.lifecycle.failed(failure)
            raise
        finally:
            self._listener.end(_CRASH_DRAIN_SECONDS)
            await serving
            await self._context.close()
            self._stop_worker()

    def _stop_worker(self) -> None:
        self._context.models.stop(_WORKER_STOP_SECONDS)

    def _on_signal(self, number: signal.Signals) -> None:
        if self._signal is not None:
            log.warning("A second signal: ending at once")
            os._exit(_SIGNAL_EXIT_BASE + number)
        self._signal = number
        self._stop.set()

    async def _start(self, load_model: Load) -> ModelService | None:
        """None if a signal came before the model was there."""
        lifecycle, settings = self._context.lifecycle, self._settings
        with print_progress(lifecycle.progress, self._say):
            loading = asyncio.ensure_future(
                load_in_thread(load_to_stay(load_model), settings, lifecycle.progress)
            )
            await _first_of(loading, self._stop)
            if loading.done() and not loading.exception():
                await self._preload(loading.result())
        if not loading.done():
            loading.cancel()
            self._say("Ended before the model was loaded")
            return None
        return self._context.models.start_primary(loading.result())

    async def _preload(self, primary: LoadedModel) -> None:
        """A server is ready only with the models that it was told to have from the start."""
        preloading = asyncio.ensure_future(self._context.models.preload(primary))
        await _first_of(preloading, self._stop)
        preloading.cancel()

    def _announce(self, service: ModelService, url: str) -> None:
        what = service.description
        self._say(
            f"Ready: {self._settings.api_name} ({what.architecture}, {what.task}, "
            f"{what.parameters / 1e6:.1f} M parameters, {what.dtype}, {what.device}, "
            f"{what.threads} threads); try {url}/docs"
        )

    async def _until_end(self, service: ModelService, serving: "asyncio.Future[None]") -> None:
        died = asyncio.ensure_future(service.worker.died.wait())
        await _first_of(died, self._stop)
        if died.done():
            raise RuntimeCrash(service.worker.died_because, hint="The log has the whole trace.")
        died.cancel()
        await self._drain(serving)

    async def _drain(self, serving: "asyncio.Future[None]") -> None:
        is_interactive = self._signal is signal.SIGINT
        total = self._settings.drain_seconds
        # The requests that run when the listener closes keep half of the time at least.
        lame_duck = 0.0 if is_interactive else min(self._settings.lame_duck_seconds, total / 2)
        self._context.models.begin_drain()
        self._say(f"Draining for at most {total:.0f} s; a second signal ends at once")
        await asyncio.wait({serving}, timeout=lame_duck)
        self._listener.end(total - lame_duck)


async def _first_of(future: "asyncio.Future[Any]", event: asyncio.Event) -> None:
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({future, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
