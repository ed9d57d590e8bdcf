"""Sockets and what serves them: the front door, and the ports of servers that may sleep."""

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from modelserver_runtime.errors import InvalidConfiguration
from modelserver_runtime.gateway.cluster import Directory
from modelserver_runtime.gateway.doors import passing_listener
from modelserver_runtime.process.connection import Connection
from modelserver_runtime.process.listener import Listener
from modelserver_runtime.settings import Settings

log = logging.getLogger(__name__)

# Requests that are held at a port which its server has lost.
_PORT_DRAIN_SECONDS = 30.0

type Listen = Callable[[str, int], socket.socket]


def client_listener(app: Any, settings: Settings) -> Listener:
    connection = partial(
        Connection,
        head_seconds=settings.head_timeout_seconds,
        body_seconds=settings.body_timeout_seconds,
    )
    return passing_listener(app, http=connection)


class Ports:
    """A listener on the port of each server that may sleep, as the directory has them."""

    def __init__(self, settings: Settings, listen: Listen, app_at: Callable[[int], Any]) -> None:
        self.problems: dict[int, str] = {}
        self._settings = settings
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
            listening = self._listen(self._settings.host, port)
        except InvalidConfiguration as failure:
            if port not in self.problems:
                log.warning("The port of a server cannot be opened: %s", failure)
            self.problems[port] = str(failure)
            return
        self.problems.pop(port, None)
        listener = client_listener(self._app_at(port), self._settings)
        task = asyncio.create_task(listener.serve(sockets=[listening]))
        self._serving[port] = (listener, task)

    def _close(self, port: int, drain_seconds: float) -> None:
        listener, task = self._serving.pop(port)
        listener.end(drain_seconds)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
