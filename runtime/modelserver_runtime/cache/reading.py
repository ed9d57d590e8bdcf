"""How one caller reads several answers at once: stored ones, and ones that are being computed."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Protocol

from modelserver_runtime.engine.request import Ticket
from modelserver_runtime.engine.worker import Clock
from modelserver_runtime.errors import RequestTimeout

# A model's own word on what is late comes first; the engine gives up this long after a deadline.
_PATIENCE_SECONDS = 2.5


class Source[Chunk](Protocol):
    """An answer in pieces; the pieces that are there stay."""

    @property
    def chunks(self) -> Sequence[Chunk]: ...

    @property
    def is_over(self) -> bool: ...


class Seat[Chunk]:
    """One caller's place at one answer: how much of it was read."""

    __slots__ = ("_failure", "_position", "index", "is_leader", "reading", "source")

    def __init__(
        self, reading: "Reading[Chunk]", index: int, source: Source[Chunk], *, is_leader: bool
    ) -> None:
        self.reading = reading
        self.index = index
        self.source = source
        self.is_leader = is_leader
        self._position = 0
        self._failure: Exception | None = None

    def fail(self, failure: Exception) -> None:
        """The answer ends for this caller; another one may go on reading it."""
        self._failure = failure
        self.reading.wake(self)

    @property
    def is_done(self) -> bool:
        if self._failure is not None:
            return True
        return self.source.is_over and self._position >= len(self.source.chunks)

    def unread(self) -> Iterator[Chunk | Exception]:
        chunks = self.source.chunks
        while self._position < len(chunks):
            self._position += 1
            yield chunks[self._position - 1]
        if self._failure is not None:
            yield self._failure


class Reading[Chunk]:
    """Holds only positions, so a caller that reads slowly costs no memory and delays nobody."""

    def __init__(self, ticket: Ticket, clock: Clock, leave: Callable[[Seat[Chunk]], None]) -> None:
        self.ticket = ticket
        self._clock = clock
        self._leave = leave
        self._deadline = ticket.deadline + _PATIENCE_SECONDS
        self._open: set[Seat[Chunk]] = set()
        self._ready: dict[Seat[Chunk], None] = {}
        self._news = asyncio.Event()

    def take_seat(self, index: int, source: Source[Chunk], *, is_leader: bool) -> Seat[Chunk]:
        seat = Seat(self, index, source, is_leader=is_leader)
        self._open.add(seat)
        if not is_leader:
            # The deadline that the model knows is another caller's.
            self._deadline = self.ticket.deadline
        if source.chunks:
            self.wake(seat)
        return seat

    def wake(self, seat: Seat[Chunk]) -> None:
        self._ready[seat] = None
        self._news.set()

    async def read(self) -> AsyncGenerator[tuple[Seat[Chunk], Chunk | Exception]]:
        """Pieces as they come, and failures, after which that answer has no more pieces."""
        try:
            while self._open:
                while self._ready:
                    seat = next(iter(self._ready))
                    del self._ready[seat]
                    for piece in seat.unread():
                        yield seat, piece
                    if seat.is_done:
                        self._open.discard(seat)
                if self._open:
                    await self._wait()
        finally:
            self.close()

    def close(self) -> None:
        """Leaves what has not ended; also twice."""
        while self._open:
            self._leave(self._open.pop())

    async def _wait(self) -> None:
        self._news.clear()
        try:
            async with asyncio.timeout(max(0.0, self._deadline - self._clock())):
                await self._news.wait()
        except TimeoutError as error:
            raise RequestTimeout(
                "The answer was not complete in time; ask for fewer tokens or try later"
            ) from error
