"""The serving process: listens at once, loads, serves, and ends as `process.ending` says."""

import asyncio
import socket
import time
from typing import Any

import uvloop

from modelserver_runtime.app.application import create_asgi, create_context
from modelserver_runtime.app.loader import Load, load_in_thread, load_to_stay
from modelserver_runtime.artifacts import print_progress
from modelserver_runtime.backends.base import LoadedModel
from modelserver_runtime.engine.service import ModelService
from modelserver_runtime.errors import RuntimeCrash, StartupFailure
from modelserver_runtime.process.ending import Ending, Say
from modelserver_runtime.process.listener import Listener
from modelserver_runtime.process.listening import url_of
from modelserver_runtime.rest.context import ServerContext
from modelserver_runtime.settings import Settings

# For requests that are failing because there is no model.
_CRASH_DRAIN_SECONDS = 2.0
_WORKER_STOP_SECONDS = 1.0


def serve(settings: Settings, listening: socket.socket, load_model: Load, say: Say) -> None:
    """Returns when drained; raises StartupFailure if the model cannot be served."""
    context = create_context(settings, clock=time.monotonic, wall_clock=time.time)  # noqa: TID251
    process = _Process(context, Listener(create_asgi(context)), say)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(process.run(load_model, listening))
        finally:
            if context.tracer is not None:
                context.tracer.close()


class _Process:
    def __init__(self, context: ServerContext, listener: Listener, say: Say) -> None:
        self._context = context
        self._settings = context.settings
        self._listener = listener
        self._say = say
        self._ending = Ending(self._settings, say)

    async def run(self, load_model: Load, listening: socket.socket) -> None:
        self._ending.hear_signals()
        self._say(f"Listening on {url_of(listening)}; loading {self._settings.api_name}")
        serving = asyncio.ensure_future(self._listener.serve(sockets=[listening]))
        # If nobody listens any more there is nothing left to do.
        serving.add_done_callback(lambda _: self._ending.is_due.set())
        try:
            service = await self._start(load_model)
            if service is not None:
                self._announce(service, url_of(listening))
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

    async def _start(self, load_model: Load) -> ModelService | None:
        """None if a signal came before the model was there."""
        lifecycle, settings = self._context.lifecycle, self._settings
        with print_progress(lifecycle.progress, self._say):
            loading = asyncio.ensure_future(
                load_in_thread(load_to_stay(load_model), settings, lifecycle.progress)
            )
            await _first_of(loading, self._ending.is_due)
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
        await _first_of(preloading, self._ending.is_due)
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
        await _first_of(died, self._ending.is_due)
        if died.done():
            raise RuntimeCrash(service.worker.died_because, hint="The log has the whole trace.")
        died.cancel()
        await self._ending.drain(self._listener, serving, self._context.models.begin_drain)


async def _first_of(future: "asyncio.Future[Any]", event: asyncio.Event) -> None:
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({future, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
