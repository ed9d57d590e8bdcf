"""Connections to one revision that are kept for the next request."""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable

from modelserver_runtime.errors import UpstreamUnreachable
from modelserver_runtime.gateway.host import Addresses, Host, LookUp, ask_dns
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
    def __init__(self, address: tuple[str, int], clock: Clock, look_up: LookUp = ask_dns) -> None:
        self.address = address
        self._host = Host(address[0], clock, look_up)
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
        return await self._connect(_CONNECT_SECONDS)

    async def connect_ahead(self, seconds: float) -> None:
        """Makes a connection for the next request."""
        connection = await self._connect(seconds)
        if self._is_closed:
            connection.close()
        else:
            self._keep(connection)

    def give_back(self, connection: Connection) -> None:
        """After each request; what cannot be used again is closed."""
        age = self._clock() - connection.born
        if self._is_closed or not connection.is_reusable or age > _LONGEST_LIFE_SECONDS:
            connection.close()
        else:
            self._keep(connection)

    def _keep(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        connection.expiry = loop.call_later(_IDLE_SECONDS, self._expire, connection)
        self._idle.append(connection)

    def close(self) -> None:
        """Requests that are under way keep their connections."""
        self._is_closed = True
        self._host.close()
        while self._idle:
            self._idle.popleft().close()

    def _expire(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
        connection.close()

    async def _connect(self, seconds: float) -> Connection:
        """Within `seconds`, from the look-up of its address to the connection."""
        host, port = self.address
        try:
            async with asyncio.timeout(seconds):
                return await self._connect_to_any(await self._host.addresses())
        except OSError as error:  # TimeoutError is one
            reason = getattr(error, "strerror", None) or str(error)
            reason = reason or f"no answer within {seconds:g} s"
            raise UpstreamUnreachable(f"{host}:{port} cannot be reached: {reason}") from error

    async def _connect_to_any(self, addresses: Addresses) -> Connection:
        """The first that takes it; that of the last one is the reason why none did."""
        for address in addresses[:-1]:
            with contextlib.suppress(OSError):
                return await self._connect_to(address)
        return await self._connect_to(addresses[-1])

    async def _connect_to(self, address: str) -> Connection:
        # Those that were opened together do not end together.
        born = self._clock() - random.uniform(0, _LIFE_SPREAD) * _LONGEST_LIFE_SECONDS  # noqa: S311  spreads load
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(
            lambda: Connection(born), address, self.address[1]
        )
        return protocol
