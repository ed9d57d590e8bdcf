"""The runtime's server inside the test process: a real socket, a real model, no child process."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from modelserver_runtime.app.application import create_asgi, create_context
from modelserver_runtime.app.loader import load
from modelserver_runtime.backends.base import LoadedModel
from modelserver_runtime.engine.service import ModelService
from modelserver_runtime.rest.context import ServerContext
from modelserver_runtime.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServer:
    """`client` speaks plain HTTP; `call` runs a function on the server's event loop."""

    url: str
    context: ServerContext
    client: httpx.Client
    loop: asyncio.AbstractEventLoop

    def call(self, function: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(30)

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.client.post(path, json=body)


def settings_for(directory: Path, **changes: Any) -> Settings:
    values = {
        # Most tests are about what is behind the cache.
        "cache_max_entries": 0,
        "model_directory": directory,
        "served_name": "tiny",
        "aliases": ["also-tiny"],
        "threads": 1,
        "name": "demo",
        "revision": "5d9f7c1a",
    }
    return Settings(**{**values, **changes})


@contextmanager
def running_server(
    settings: Settings, model: LoadedModel | None = None, *, is_loaded: bool = True
) -> Iterator[RunningServer]:
    """Serves until the block ends; without `model` it is loaded from the settings' directory."""
    context = create_context(settings, clock=time.monotonic, wall_clock=time.time)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread = _ServerThread(context, listening)
        thread.start()
        thread.started.wait(30)
        client = httpx.Client(base_url=url, timeout=30)
        server = RunningServer(url=url, context=context, client=client, loop=thread.loop)
        try:
            if is_loaded:
                make_ready(server, model or load(settings, context.lifecycle.progress))
            yield server
        finally:
            client.close()
            thread.end()


def make_ready(server: RunningServer, model: LoadedModel) -> ModelService:
    return server.call(lambda: server.context.models.start_primary(model))


class _ServerThread(threading.Thread):
    def __init__(self, context: ServerContext, listening: socket.socket) -> None:
        super().__init__(daemon=True)
        self._context = context
        self._listening = listening
        self._server = uvicorn.Server(
            uvicorn.Config(
                create_asgi(context),
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
            )
        )
        self.loop = asyncio.new_event_loop()
        self.started = threading.Event()

    def run(self) -> None:
        self.loop.call_soon(self.started.set)
        self.loop.run_until_complete(self._server.serve(sockets=[self._listening]))
        self.loop.run_until_complete(self._context.close())
        self.loop.close()

    def end(self) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        self.join(30)
        self._context.tokenizing.shutdown()
        self._context.models.stop(5)
