"""uvicorn as all of our servers run it."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from modelserver_runtime.process.listening import BACKLOG

# Longer than clients and proxies keep an idle connection, so that it is they who close it.
_KEEP_ALIVE_SECONDS = 75
# libuv takes one connection of each socket in a turn of its loop, and with hundreds of requests
# under way a turn takes tens of milliseconds: who came then would wait for seconds.
_ACCEPTED_IN_A_TURN = 32


class Listener(uvicorn.Server):
    """Without uvicorn's own signal handling; on the loop that runs."""

    def __init__(self, app: Any, *, http: Any = "httptools", **options: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=http,
                loop="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                # It would believe every proxy on this machine; `access.addresses` asks the
                # settings, and the router passes on what it was told.
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                backlog=BACKLOG,
                **options,
            )
        )

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """The same sockets are listened to several times, each of which takes a connection."""
        if sockets is not None:
            more = range(_ACCEPTED_IN_A_TURN - 1)
            sockets = [*sockets, *(one.dup() for one in sockets for _ in more)]
        await super().serve(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def end(self, drain_seconds: float) -> None:
        """Stops listening; running requests have `drain_seconds` to finish. Only once."""
        if self.should_exit:
            return
        self.config.timeout_graceful_shutdown = drain_seconds  # type: ignore[assignment]
        self.should_exit = True
