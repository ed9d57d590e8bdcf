"""The two ports of a process that passes requests on, from the first request to the last."""

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from modelserver_runtime.gateway.administration import Administration
from modelserver_runtime.process.ending import Ending, Say
from modelserver_runtime.process.files import raise_limit_of_files
from modelserver_runtime.process.listener import Listener
from modelserver_runtime.process.listening import url_of

_ADMIN_DRAIN_SECONDS = 1.0
_REFUSAL_SECONDS = 1.0

type Sockets = tuple[socket.socket, socket.socket]  # of the clients, and for administration


def run_to_end(main: Coroutine[Any, Any, None]) -> None:
    # A cut answer and a client's bad request are told in our own log, or in none.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    raise_limit_of_files()  # two connections for each request
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def passing_listener(app: Any, **options: Any) -> Listener:
    """Dates are the upstream's own, and are passed on."""
    return Listener(app, ws="none", date_header=False, **options)


class Doors:
    """Open from the start; administration until all else has ended."""

    def __init__(
        self, clients: Listener, administration: Administration, sockets: Sockets, say: Say
    ) -> None:
        listening, admin_listening = sockets
        self._clients = clients
        self._admin = passing_listener(administration)
        self.serving = asyncio.ensure_future(clients.serve(sockets=[listening]))
        self._administering = asyncio.ensure_future(self._admin.serve(sockets=[admin_listening]))
        say(f"Listening on {url_of(listening)}; administration on {url_of(admin_listening)}")

    async def drain(self, ending: Ending, begin: Callable[[], None]) -> float:
        """As `Ending.drain` does it."""
        return await ending.drain(self._clients, self.serving, begin)

    async def close(self) -> None:
        self._admin.end(_ADMIN_DRAIN_SECONDS)
        await asyncio.gather(self.serving, self._administering)


async def until_refusal(ended: "asyncio.Future[Any]", left: float) -> None:
    """Until all have their answer, or the rest of the time is what refusing takes."""
    await asyncio.wait({ended}, timeout=max(0.0, left - _REFUSAL_SECONDS))
