"""Sockets and what serves them: the front door, and the ports of servers that may sleep."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from modelserver_runtime.errors import InvalidConfiguration
from modelserver_runtime.gateway.cluster import Directory

log = logging.getLogger(__name__)

# Longer than clients and proxies keep an idle connection, so that it is they who close it.
_KEEP_ALIVE_SECONDS = 75
_BACKLOG = 2048
# Requests that are held at a port which its server has lost.
_PORT_DRAIN_SECONDS = 30.0

type Listen = Callable[[str, int], socket.socket]


class Listener(uvicorn.Server):
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
                date_header=False,
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


class Ports:
    """A listener on the port of each server that may sleep, as the directory has them."""

    def __init__(self, host: str, listen: Listen, app_at: Callable[[int], Any]) -> None:
        self.problems: dict[int, str] = {}
        self._host = host
        self._listen = listen
        self._app_at = app_at
        self._serving: dict[int, tuple[Listener, asyncio.Task[None]]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def open_ports(self) -> frozenset[int]:
        return frozenset(self._serving)

    def follow(self, directory: Directory) -> None:
        for port in set(self._serving) - set(directory.by_port):
            self._close(port, _PORT_DRAIN_SECONDS)
        for port in set(directory.by_port) - set(self._serving):
            self._open(port)
        self.problems = {
            port: text for port, text in self.problems.items() if port in directory.by_port
        }

    def end(self, drain_seconds: float) -> None:
        for port in tuple(self._serving):
            self._close(port, drain_seconds)

    async def ended(self) -> None:
        while self._ending:
            await asyncio.wait(self._ending)

    def _open(self, port: int) -> None:
        """One that is taken is tried again with the next change."""
        try:
            listening = self._listen(self._host, port)
        except InvalidConfiguration as failure:
            if port not in self.problems:
                log.warning("The port of a server cannot be opened: %s", failure)
            self.problems[port] = str(failure)
            return
        self.problems.pop(port, None)
        listener = Listener(self._app_at(port))
        task = asyncio.create_task(listener.serve(sockets=[listening]))
        self._serving[port] = (listener, task)

    def _close(self, port: int, drain_seconds: float) -> None:
        listener, task = self._serving.pop(port)
        listener.end(drain_seconds)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
