"""Bounds how many requests are inside, and says when to come back."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from modelserver_runtime.engine.worker import Clock
from modelserver_runtime.errors import NotReady, Overloaded

# Weight of the newest request in the mean duration that Retry-After is computed from.
_NEWEST_WEIGHT = 0.2
_LONGEST_RETRY_SECONDS = 60


class Admission:
    """Used on the event loop only."""

    def __init__(self, *, parallel: int, waiting: int, clock: Clock) -> None:
        self._parallel = parallel
        self._limit = parallel + waiting
        self._clock = clock
        self._inside = 0
        self._mean_seconds = 1.0
        self._closed_because = ""

    @property
    def inside(self) -> int:
        return self._inside

    def close(self, reason: str) -> None:
        """Refuses everything from now on."""
        self._closed_because = reason

    @contextmanager
    def enter(self) -> Iterator[None]:
        if self._closed_because:
            raise NotReady(self._closed_because, retry_after_seconds=5)
        if self._inside >= self._limit:
            raise Overloaded(
                f"{self._inside} requests are being answered or wait, and no more may wait; "
                "try again later",
                retry_after_seconds=self._retry_after_seconds(),
            )
        self._inside += 1
        began = self._clock()
        try:
            yield
        finally:
            self._inside -= 1
            seconds = self._clock() - began
            self._mean_seconds += _NEWEST_WEIGHT * (seconds - self._mean_seconds)

    def _retry_after_seconds(self) -> float:
        """When the requests that wait now should have begun."""
        rounds = self._inside / self._parallel
        return min(max(1, math.ceil(self._mean_seconds * rounds)), _LONGEST_RETRY_SECONDS)
