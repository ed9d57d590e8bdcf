"""The stored answers of one model: memory first, then what replicas share."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from modelserver_runtime.cache.codec import Codec
from modelserver_runtime.cache.key import Key
from modelserver_runtime.cache.memory import Held, MemoryCache, Occupancy
from modelserver_runtime.cache.second_level import SecondLevel
from modelserver_runtime.cache.tally import Level, Tally
from modelserver_runtime.engine.worker import Clock

# Answers on their way to a slow store; more are not sent, so that they do not fill the memory.
_MOST_WRITES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer[Chunk]:
    chunks: Sequence[Chunk]
    age_seconds: float
    level: Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Recollection[Chunk]:
    """What the second level knows; answers that are computed now belong to its `epoch`."""

    epoch: bytes | None
    answers: Mapping[Key, Answer[Chunk]]


class Flights(Protocol):
    """See `single_flight.SingleFlight`."""

    def __len__(self) -> int: ...

    def disown(self) -> None: ...


class Shelf:
    """Used on the event loop only. `name` is the model's."""

    def __init__(
        self,
        name: str,
        memory: MemoryCache,
        second_level: SecondLevel | None,
        *,
        tally: Tally,
        clock: Clock,
    ) -> None:
        self.name = name
        self.tally = tally
        self._memory = memory
        self._second_level = second_level
        self._clock = clock
        self._epoch: bytes | None = None
        self._identity = ""
        self._is_distrusted = False
        self.invalidations = 0
        self._writes: set[asyncio.Task[None]] = set()
        self._flights: list[Flights] = []

    @property
    def ttl_seconds(self) -> float:
        return self._memory.ttl_seconds

    @property
    def occupancy(self) -> Occupancy:
        return self._memory.occupancy(self.name)

    def begin(self, identity: str) -> None:
        """For a model that has just been loaded; answers of other files are of no use any more."""
        self._flights.clear()
        former, self._identity = self._identity, identity
        if former not in {"", identity}:
            self._empty()

    @property
    def in_flight(self) -> int:
        """Answers that are being computed, and may be joined."""
        return sum(map(len, self._flights))

    @property
    def writing(self) -> int:
        """Answers on their way to the second level."""
        return len(self._writes)

    def watch(self, flights: Flights) -> None:
        """Tells them when the model is invalidated."""
        self._flights.append(flights)

    def find(self, key: Key, max_age_seconds: float) -> Answer[Any] | None:
        """In memory, if it is younger than that."""
        held = self._memory.get(key)
        if held is None:
            return None
        age = self._clock() - held.stored_at
        if age >= max_age_seconds:
            return None
        return Answer(chunks=held.value, age_seconds=age, level=Level.MEMORY)

    async def recall[Chunk](self, keys: Sequence[Key], codec: Codec[Chunk]) -> Recollection[Chunk]:
        """In the second level; what is found there is in memory from now on."""
        if self._second_level is None or self._is_distrusted:
            return Recollection(epoch=None, answers={})
        before = self.invalidations
        recalled = await self._second_level.recall(self.name, keys)
        if recalled.epoch is None:
            self.tally.note_error()
        if recalled.epoch is None or self.invalidations != before:
            return Recollection(epoch=None, answers={})
        self.note_epoch(recalled.epoch)
        answers: dict[Key, Answer[Chunk]] = {}
        for key, (content, age) in recalled.found.items():
            chunks = self._decode(codec, content)
            if chunks is not None:
                self._put(key, chunks, codec, age)
                answers[key] = Answer(chunks=chunks, age_seconds=age, level=Level.SHARED)
        return Recollection(epoch=recalled.epoch, answers=answers)

    def keep[Chunk](
        self, key: Key, chunks: Sequence[Chunk], codec: Codec[Chunk], epoch: bytes | None
    ) -> None:
        """`epoch` is that of the time when the computation began; None keeps it here only."""
        if not codec.may_store(chunks):
            return
        self._put(key, chunks, codec, 0.0)
        if epoch is None or epoch != self._epoch or self._is_distrusted:
            return
        if len(self._writes) >= _MOST_WRITES:
            self.tally.note_error()
            return
        self._in_background(self._write(key, epoch, codec.encode(chunks)))

    def note_epoch(self, epoch: bytes) -> None:
        """Another epoch than before means that another replica has invalidated the model."""
        former, self._epoch = self._epoch, epoch
        if former is not None and former != epoch:
            self._empty()

    async def invalidate(self) -> tuple[int, bool]:
        """How many answers memory had, and whether the other replicas will know."""
        count = self._empty()
        self._is_distrusted = self._second_level is not None
        return count, await self.settle()

    async def settle(self) -> bool:
        """Begins a new epoch if one is due; until it has begun, the second level is not asked."""
        if self._second_level is None or not self._is_distrusted:
            return True
        epoch = await self._second_level.renew(self.name)
        if epoch is None:
            self.tally.note_error()
            return False
        self._epoch = epoch
        self._is_distrusted = False
        return True

    def _empty(self) -> int:
        self.invalidations += 1
        for flights in self._flights:
            flights.disown()
        count = self._memory.invalidate(self.name)
        self.tally.note_occupancy(self.occupancy)
        return count

    def _put[Chunk](
        self, key: Key, chunks: Sequence[Chunk], codec: Codec[Chunk], age_seconds: float
    ) -> None:
        held = Held(
            namespace=self.name,
            value=tuple(chunks),
            size_bytes=codec.size_of(chunks),
            stored_at=self._clock() - age_seconds,
        )
        self._memory.put(key, held)
        self.tally.note_occupancy(self.occupancy)

    def _decode[Chunk](self, codec: Codec[Chunk], content: bytes) -> tuple[Chunk, ...] | None:
        try:
            return codec.decode(content)
        except (ValueError, TypeError, LookupError):
            self.tally.note_error()
            return None

    async def _write(self, key: Key, epoch: bytes, content: bytes) -> None:
        if self._second_level is not None and not await self._second_level.write(
            key, epoch, content
        ):
            self.tally.note_error()

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
