"""The body of a client's request as it comes, and the news that the client has gone."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

type Message = MutableMapping[str, Any]
type Scope = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


class Body:
    """What was read ahead waits in memory; who reads ahead bounds it."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ahead: list[bytes] = []
        self.has_more = True

    @property
    def ahead_bytes(self) -> int:
        return sum(map(len, self._ahead))

    async def read(self) -> bytes:
        """The next part, straight from the connection."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        self.has_more = bool(message.get("more_body", False))
        return bytes(message.get("body", b""))

    async def read_ahead(self) -> int:
        """How many bytes have come."""
        part = await self.read()
        self._ahead.append(part)
        return len(part)

    def take_ahead(self) -> bytes:
        content = self._ahead[0] if len(self._ahead) == 1 else b"".join(self._ahead)
        self._ahead.clear()
        return content

    async def until_gone(self) -> None:
        """Never returns; only after the whole body has been read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        raise ClientGone
