"""The first level: answers in this process's memory, least recently used out first."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from modelserver_runtime.cache.key import Key
from modelserver_runtime.engine.worker import Clock

# What has expired is looked for this often; until then it is in memory, but never given.
_SWEEP_SECONDS = 30.0


class Eviction(StrEnum):
    """Why an answer is no longer kept; a label of the metrics."""

    ENTRIES = "entries"
    BYTES = "bytes"
    EXPIRED = "expired"
    INVALIDATED = "invalidated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An answer of the model `namespace`; `stored_at` is a reading of the monotonic clock."""

    namespace: str
    value: Any
    size_bytes: int
    stored_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLimits:
    max_entries: int
    max_bytes: int
    ttl_seconds: float


@dataclass(slots=True)
class Occupancy:
    entries: int = 0
    size_bytes: int = 0


type OnEviction = Callable[[str, Eviction], None]


class MemoryCache:
    """Models share the limits; each is a namespace that can be emptied alone."""

    def __init__(self, limits: MemoryLimits, *, clock: Clock, on_eviction: OnEviction) -> None:
        self._limits = limits
        self._clock = clock
        self._on_eviction = on_eviction
        self._held: OrderedDict[Key, Held] = OrderedDict()
        self._occupancy: dict[str, Occupancy] = {}
        self._size_bytes = 0
        self._next_sweep = 0.0

    def __len__(self) -> int:
        return len(self._held)

    @property
    def ttl_seconds(self) -> float:
        return self._limits.ttl_seconds

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def occupancy(self, namespace: str) -> Occupancy:
        return self._occupancy.get(namespace, Occupancy())

    def get(self, key: Key) -> Held | None:
        held = self._held.get(key)
        if held is None:
            return None
        if self._is_expired(held):
            self._evict(key, Eviction.EXPIRED)
            return None
        self._held.move_to_end(key)
        return held

    def put(self, key: Key, held: Held) -> bool:
        """Whether it is kept: an answer larger than the whole memory never is."""
        if held.size_bytes > self._limits.max_bytes or not self._limits.max_entries:
            return False
        if self._is_expired(held):
            return False
        if self._clock() >= self._next_sweep:
            self.sweep()
        self._remove(key)
        self._held[key] = held
        self._count(held, 1)
        self._make_room()
        return True

    def sweep(self) -> None:
        """Removes what has expired, which would else wait until it is asked for or in the way."""
        self._next_sweep = self._clock() + _SWEEP_SECONDS
        expired = [key for key, held in self._held.items() if self._is_expired(held)]
        for key in expired:
            self._evict(key, Eviction.EXPIRED)

    def invalidate(self, namespace: str) -> int:
        """Removes the answers of one model; how many there were."""
        keys = [key for key, held in self._held.items() if held.namespace == namespace]
        for key in keys:
            self._evict(key, Eviction.INVALIDATED)
        return len(keys)

    def _is_expired(self, held: Held) -> bool:
        return self._clock() - held.stored_at >= self._limits.ttl_seconds

    def _make_room(self) -> None:
        while len(self._held) > self._limits.max_entries:
            self._evict(next(iter(self._held)), Eviction.ENTRIES)
        while self._size_bytes > self._limits.max_bytes:
            self._evict(next(iter(self._held)), Eviction.BYTES)

    def _evict(self, key: Key, reason: Eviction) -> None:
        namespace = self._held[key].namespace
        self._remove(key)
        self._on_eviction(namespace, reason)

    def _remove(self, key: Key) -> None:
        if (held := self._held.pop(key, None)) is not None:
            self._count(held, -1)

    def _count(self, held: Held, sign: int) -> None:
        occupancy = self._occupancy.setdefault(held.namespace, Occupancy())
        occupancy.entries += sign
        occupancy.size_bytes += sign * held.size_bytes
        self._size_bytes += sign * held.size_bytes
