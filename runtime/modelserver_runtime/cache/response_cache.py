"""The response cache of a server: one memory for all its models, and what replicas share."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from modelserver_runtime.cache.calls import ModelKey
from modelserver_runtime.cache.layer import CacheLayer
from modelserver_runtime.cache.memory import Eviction, MemoryCache, MemoryLimits, Occupancy
from modelserver_runtime.cache.second_level import SecondLevel, SharedStore
from modelserver_runtime.cache.shelf import Shelf
from modelserver_runtime.cache.tally import Tally
from modelserver_runtime.engine.worker import Clock
from modelserver_runtime.telemetry import ModelTelemetry

# How soon replicas follow when one of them was told to forget a model; one question to Redis each.
_WATCH_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRules:
    """With `is_shared` all callers are given each other's answers; else tenants keep their own."""

    limits: MemoryLimits
    is_shared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Invalidated:
    """`is_shared` is false while the other replicas cannot be told, which is tried again."""

    entries: int
    is_shared: bool


class ResponseCache:
    """Used on the event loop only; `close` ends what runs in the background."""

    def __init__(
        self,
        rules: CacheRules,
        *,
        clock: Clock,
        wall_clock: Clock,
        store: SharedStore | None = None,
    ) -> None:
        self._rules = rules
        self._clock = clock
        self._shelves: dict[str, Shelf] = {}
        self._memory = MemoryCache(rules.limits, clock=clock, on_eviction=self._note_eviction)
        self._second_level: SecondLevel | None = None
        if store is not None:
            ttl_seconds = rules.limits.ttl_seconds
            self._second_level = SecondLevel(store, ttl_seconds=ttl_seconds, wall_clock=wall_clock)
        self._watching: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()

    @property
    def has_second_level(self) -> bool:
        return self._second_level is not None

    @property
    def occupancy(self) -> Occupancy:
        return Occupancy(entries=len(self._memory), size_bytes=self._memory.size_bytes)

    def __iter__(self) -> Iterator[Shelf]:
        return iter(self._shelves.values())

    def layer(
        self, model: str, identity: str, telemetry: ModelTelemetry, *, samples: bool = False
    ) -> CacheLayer:
        """What stands in front of a model that has just been loaded; see `CacheLayer.samples`."""
        shelf = self._shelf(model, telemetry)
        shelf.begin(identity)
        model_key = ModelKey(identity=identity, is_shared=self._rules.is_shared)
        return CacheLayer(shelf=shelf, model_key=model_key, clock=self._clock, samples=samples)

    def _shelf(self, model: str, telemetry: ModelTelemetry) -> Shelf:
        if model not in self._shelves:
            self._shelves[model] = Shelf(
                model,
                self._memory,
                self._second_level,
                tally=Tally(telemetry),
                clock=self._clock,
            )
        if self._second_level is not None and self._watching is None:
            self._watching = asyncio.create_task(self._watch(self._second_level))
        return self._shelves[model]

    async def invalidate(self, model: str) -> Invalidated:
        """Forgets the answers of a model, here at once and at the other replicas soon."""
        shelf = self._shelves.get(model)
        if shelf is not None:
            entries, is_shared = await shelf.invalidate()
            return Invalidated(entries=entries, is_shared=is_shared)
        # Never loaded here; other replicas may have answers of it.
        second_level = self._second_level
        is_shared = second_level is None or await second_level.renew(model) is not None
        return Invalidated(entries=0, is_shared=is_shared)

    async def close(self) -> None:
        self._closed.set()
        if self._watching is not None:
            await self._watching

    def _note_eviction(self, model: str, reason: Eviction) -> None:
        shelf = self._shelves[model]
        shelf.tally.note_eviction(reason)
        shelf.tally.note_occupancy(shelf.occupancy)

    async def _watch(self, second_level: SecondLevel) -> None:
        while not self._closed.is_set():
            await self._follow(second_level)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), _WATCH_SECONDS)

    async def _follow(self, second_level: SecondLevel) -> None:
        """Forgets what other replicas were told to forget, and tells them what they were not."""
        for shelf in self:
            await shelf.settle()
        before = {shelf.name: shelf.invalidations for shelf in self}
        for model, epoch in (await second_level.epochs(list(before))).items():
            shelf = self._shelves[model]
            if shelf.invalidations == before[model]:
                shelf.note_epoch(epoch)
