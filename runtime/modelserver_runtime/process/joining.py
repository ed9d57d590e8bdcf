"""The head of an answer leaves together with what follows it at once.

uvicorn writes the head and the body by themselves, and uvloop writes at once: two calls of the
kernel for each answer, which are the dearest things that a proxy does.
"""

import asyncio
from typing import Any, cast

_HEAD = b"HTTP/1."


def joining(transport: asyncio.Transport) -> asyncio.Transport:
    return cast("asyncio.Transport", JoiningTransport(transport))


class JoiningTransport:
    """Keeps a head until the next write, at most until the loop's next turn."""

    __slots__ = ("_head", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._head = b""

    def write(self, content: bytes) -> None:
        if self._head:
            content, self._head = self._head + content, b""
        elif content.startswith(_HEAD):
            self._head = content
            self._loop.call_soon(self._flush)
            return
        self._transport.write(content)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:
        """Everything else is the transport's own."""
        return getattr(self._transport, name)

    def _flush(self) -> None:
        head, self._head = self._head, b""
        if head and not self._transport.is_closing():
            self._transport.write(head)
