"""A load generator that costs little, notes each answer's time, and counts what went wrong.

Each connection asks again as soon as it is answered. Answers are looked at no further than needed
to say that they are whole; one that is not, or none at all, has failed, and the next request has a
new connection.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import quantiles
from time import perf_counter
from typing import cast

import orjson

WORD = b"word "
_HEAD_END = b"\r\n\r\n"
_GOOD = b"HTTP/1.1 200"
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_LAST_CHUNK = b"\r\n0\r\n\r\n"
# What is not answered after it has failed.
_LIMIT_SECONDS = 120.0

type Address = tuple[str, int]
type More = Callable[[], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """`words` are how many a good answer has, None where that is not known."""

    content: bytes
    words: int | None = 1


@dataclass(slots=True)
class Tally:
    """`seconds` are those of each good answer, from its request to its last byte."""

    seconds: list[float] = field(default_factory=list)
    words: int = 0
    failed: int = 0
    reason: str = ""  # of the first failure
    elapsed: float = 0.0

    @property
    def answers(self) -> int:
        return len(self.seconds)

    def fail(self, reason: str) -> None:
        self.failed += 1
        self.reason = self.reason or reason

    def milliseconds(self, percent: int) -> float:
        times = self.seconds if len(self.seconds) > 1 else [*self.seconds, *self.seconds]
        return 1000 * quantiles(times, n=100, method="inclusive")[percent - 1]


def chat(address: Address, *, stream_of: int = 0) -> Question:
    """A short chat; with `stream_of` a stream of that many words."""
    message = {"role": "user", "content": "How many words does an answer need?"}
    body: dict[str, object] = {
        "model": "bench",
        "messages": [message],
        "max_tokens": stream_of or 1,
    }
    if stream_of:
        body["stream"] = True
    content = orjson.dumps(body)
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: %b:%d\r\nAuthorization: Bearer sk-bench\r\n"
        b"Content-Type: application/json\r\nAccept: */*\r\nUser-Agent: bench\r\n"
        b"Content-Length: %d\r\n\r\n"
    ) % (address[0].encode(), address[1], len(content))
    return Question(content=head + content, words=stream_of or 1)


def until(seconds: float) -> More:
    """Requests begin until then."""
    end = perf_counter() + seconds
    return lambda: perf_counter() < end


def so_many(count: int) -> More:
    left = iter(range(count))
    return lambda: next(left, None) is not None


async def ask(address: Address, question: Question, more: More, *, connections: int) -> Tally:
    tally, began = Tally(), perf_counter()
    askers = [_Asker(address, question, more, tally) for _ in range(connections)]
    tasks = [asyncio.create_task(asker.run()) for asker in askers]
    _, late = await asyncio.wait(tasks, timeout=_LIMIT_SECONDS)
    tally.elapsed = perf_counter() - began
    for task in late:
        task.cancel()
        tally.fail(f"There was no answer within {_LIMIT_SECONDS:g} s")
    await asyncio.gather(*tasks, return_exceptions=True)
    return tally


class _Asker:
    """One client, with one connection after the other as they break."""

    def __init__(self, address: Address, question: Question, more: More, tally: Tally) -> None:
        self._address = address
        self._question = question
        self._more = more
        self._tally = tally

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._more():
            try:
                _, made = await loop.create_connection(self._connection, *self._address)
            except OSError as error:
                self._tally.fail(f"No connection: {error}")
                continue
            connection = made
            try:
                await connection.done
            finally:
                connection.close()

    def _connection(self) -> "_Connection":
        return _Connection(self._question, self._more, self._tally)


class _Connection(asyncio.Protocol):
    """The first request has been taken from `more` already."""

    def __init__(self, question: Question, more: More, tally: Tally) -> None:
        self._question = question
        self._more = more
        self._tally = tally
        self._received = b""
        self._began = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._received.startswith(_GOOD[: len(self._received)]):
            self._fail(f"No good answer: {self._received[:300]!r}")
        elif self._is_whole():
            self._count()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"The connection broke: {exc or 'it was closed'}")

    def close(self) -> None:
        self._transport.close()

    def _ask(self) -> None:
        self._received = b""
        self._began = perf_counter()
        self._transport.write(self._question.content)

    def _count(self) -> None:
        words = self._received.count(WORD)
        if self._question.words not in {None, words}:
            self._fail(f"{words} words came, and not {self._question.words}")
            return
        self._tally.seconds.append(perf_counter() - self._began)
        self._tally.words += words
        if self._more():
            self._ask()
        else:
            self._end()

    def _fail(self, reason: str) -> None:
        if not self.done.done():
            self._tally.fail(reason)
            self._end()

    def _end(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _is_whole(self) -> bool:
        """By its Content-Length, or by its last chunk."""
        end = self._received.find(_HEAD_END)
        if end < 0:
            return False
        length = _LENGTH.search(self._received, 0, end)
        if length is None:
            return self._received.endswith(_LAST_CHUNK)
        return len(self._received) >= end + len(_HEAD_END) + int(length[1])


async def answers_once(address: Address) -> bool:
    """Whether it answers a chat now, whatever it says."""
    question = replace(chat(address), words=None)
    tally = await ask(address, question, so_many(1), connections=1)
    return not tally.failed
