"""A load generator that costs little: prepared bytes, and answers that are counted, not read."""

import asyncio
from dataclasses import dataclass

import orjson

from bench.fronting.asking import Body
from bench.fronting.serving import ServerFailed

_HEAD_END = b"\r\n\r\n"
_GOOD = b"HTTP/1.1 200"
_LAST_CHUNK = b"0\r\n\r\n"
_EVENT = b"data: {"
WORD = b"word "


@dataclass(slots=True)
class Tally:
    answers: int = 0
    events: int = 0
    words: int = 0  # the fake model's tokens: each is the same word


def prepared(path: str, body: Body, host: str) -> bytes:
    content = orjson.dumps(dict(body))
    return (
        b"POST %b HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b"
    ) % (path.encode(), host.encode(), len(content), content)


class Connection(asyncio.Protocol):
    """Sends the same request again as soon as it is answered, until no more are `left`."""

    def __init__(self, request: bytes, left: "Countdown", tally: Tally) -> None:
        self._request = request
        self._left = left
        self._tally = tally
        self._buffer = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._buffer and not self._buffer.startswith(_GOOD[: len(self._buffer)]):
            self._end(ServerFailed(f"Not a good answer: {self._buffer[:500]!r}"))
        elif self._is_whole():
            self._tally.answers += 1
            self._tally.events += self._buffer.count(_EVENT)
            self._tally.words += self._buffer.count(WORD)
            self._buffer = b""
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(ServerFailed(f"The server closed a connection: {exc}"))

    def _ask(self) -> None:
        if self._left.take():
            self._transport.write(self._request)
        else:
            self._end(None)
            self._transport.close()

    def _end(self, failure: Exception | None) -> None:
        if self.done.done():
            return
        if failure is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(failure)

    def _is_whole(self) -> bool:
        """By its Content-Length, or by its last chunk."""
        head_end = self._buffer.find(_HEAD_END)
        if head_end < 0:
            return False
        head = self._buffer[:head_end].lower()
        at = head.find(b"content-length: ")
        if at < 0:
            return self._buffer.endswith(_LAST_CHUNK)
        size = int(head[at + 16 :].split(b"\r\n", 1)[0])
        return len(self._buffer) >= head_end + len(_HEAD_END) + size


class Countdown:
    def __init__(self, count: int) -> None:
        self._count = count

    def take(self) -> bool:
        self._count -= 1
        return self._count >= 0


async def ask_many(
    address: tuple[str, int], request: bytes, *, count: int, connections: int
) -> Tally:
    """`count` answers in whole, over so many connections."""
    tally, left = Tally(), Countdown(count)
    loop = asyncio.get_running_loop()
    opened = [
        (await loop.create_connection(lambda: Connection(request, left, tally), *address))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(connection.done for connection in opened))
    return tally
