"""Counts of one model's cache, for /metrics and for /admin/cache/stats."""

from collections import Counter
from enum import StrEnum

from modelserver_runtime.cache.memory import Eviction, Occupancy
from modelserver_runtime.telemetry import ModelTelemetry


class Level(StrEnum):
    """Where a stored answer was; a label of the metrics."""

    MEMORY = "memory"
    SHARED = "shared"


class Tally:
    def __init__(self, telemetry: ModelTelemetry) -> None:
        self._telemetry = telemetry
        self.hits: Counter[Level] = Counter()
        self.evictions: Counter[Eviction] = Counter()
        self.coalesced = 0
        self.misses = 0
        self.bypassed = 0
        self.tokens_saved = 0
        self.errors = 0

    def note_hit(self, level: Level) -> None:
        self.hits[level] += 1
        self._telemetry.cache_hits[level].inc()

    def note_coalesced(self) -> None:
        self.coalesced += 1
        self._telemetry.cache_coalesced.inc()

    def note_miss(self) -> None:
        self.misses += 1
        self._telemetry.cache_misses.inc()

    def note_bypassed(self, count: int) -> None:
        self.bypassed += count
        self._telemetry.cache_bypassed.inc(count)

    def note_tokens_saved(self, count: int) -> None:
        self.tokens_saved += count
        self._telemetry.cache_tokens_saved.inc(count)

    def note_eviction(self, reason: Eviction) -> None:
        self.evictions[reason] += 1
        self._telemetry.cache_evictions[reason].inc()

    def note_occupancy(self, occupancy: Occupancy) -> None:
        self._telemetry.cache_entries.set(occupancy.entries)
        self._telemetry.cache_bytes.set(occupancy.size_bytes)

    def note_error(self) -> None:
        self.errors += 1
        self._telemetry.cache_shared_errors.inc()
