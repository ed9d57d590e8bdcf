"""Connections to one revision that are kept for the next request."""

import asyncio
import random
from collections import deque
from collections.abc import Callable

from modelserver_runtime.errors import UpstreamUnreachable
from modelserver_runtime.gateway.upstream import Connection

# Shorter than the five seconds in which a draining pod still answers and closes each connection
# with an answer: so it is always we who give up an idle one, and no request meets a closing end.
_IDLE_SECONDS = 4.0
# A Service spreads connections and not requests: only new ones ever reach new pods.
_LONGEST_LIFE_SECONDS = 60.0
_LIFE_SPREAD = 0.25
# A lost packet of the handshake is sent again after one second, and then after two more.
_CONNECT_SECONDS = 5.0

type Clock = Callable[[], float]


class Pool:
    def __init__(self, address: tuple[str, int], clock: Clock) -> None:
        self.address = address
        self._clock = clock
        self._idle: deque[Connection] = deque()
        self._is_closed = False

    async def take(self, *, is_new: bool = False) -> Connection:
        """The one that has rested longest, so that all pods behind them get their turn."""
        while self._idle and not is_new:
            connection = self._idle.popleft()
            if connection.expiry is not None:
                connection.expiry.cancel()
            if connection.is_usable:
                connection.is_reused = True
                return connection
            connection.close()
        return await self._connect()

    def give_back(self, connection: Connection) -> None:
        """After each request; what cannot be used again is closed."""
        age = self._clock() - connection.born
        if self._is_closed or not connection.is_reusable or age > _LONGEST_LIFE_SECONDS:
            connection.close()
            return
        loop = asyncio.get_running_loop()
        connection.expiry = loop.call_later(_IDLE_SECONDS, self._expire, connection)
        self._idle.append(connection)

    def close(self) -> None:
        """Requests that are under way keep their connections."""
        self._is_closed = True
        while self._idle:
            self._idle.popleft().close()

    def _expire(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
        connection.close()

    async def _connect(self) -> Connection:
        host, port = self.address
        # Those that were opened together do not end together.
        born = self._clock() - random.uniform(0, _LIFE_SPREAD) * _LONGEST_LIFE_SECONDS  # noqa: S311  spreads load
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                loop = asyncio.get_running_loop()
                _, protocol = await loop.create_connection(lambda: Connection(born), host, port)
        except OSError as error:  # TimeoutError is one
            reason = getattr(error, "strerror", None) or str(error)
            reason = reason or f"no answer within {_CONNECT_SECONDS:g} s"
            raise UpstreamUnreachable(f"{host}:{port} cannot be reached: {reason}") from error
        return protocol
