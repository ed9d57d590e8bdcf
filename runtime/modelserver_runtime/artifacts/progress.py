"""How far a start is: written by the threads that work, read by the probe and the log."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from threading import Lock
from typing import Any

# The rate behind the estimate is the mean of this time: it follows a link, but does not jump.
RATE_WINDOW_SECONDS = 20.0
SAMPLE_SECONDS = 0.5


class Phase(StrEnum):
    FETCHING = "Fetching"
    LOADING = "Loading"
    WARMING_UP = "WarmingUp"
    READY = "Ready"
    DRAINING = "Draining"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressReport:
    phase: Phase
    percent: int
    done_bytes: int
    total_bytes: int
    eta_seconds: int | None
    message: str

    def as_json(self) -> dict[str, Any]:
        """The body of `/startupz`."""
        return {
            "phase": str(self.phase),
            "percent": self.percent,
            "doneBytes": self.done_bytes,
            "totalBytes": self.total_bytes,
            "etaSeconds": self.eta_seconds,
            "message": self.message,
        }


class Progress:
    """Bytes done of bytes in total; may be written and read by any thread.

    What is reported never goes back within a phase, also when a corrupt file is fetched again.
    """

    def __init__(
        self,
        *,
        phase: Phase = Phase.FETCHING,
        clock: Callable[[], float] = time.monotonic,  # noqa: TID251  the one default; tests pass theirs
    ) -> None:
        self._lock = Lock()
        self._clock = clock
        self._phase = phase
        self._message = ""
        self._restart()

    def _restart(self) -> None:
        self._total = 0
        self._done = 0
        self._highest = 0
        self._transferred = 0
        self._samples: deque[tuple[float, int]] = deque()

    def enter(self, phase: Phase, *, message: str = "", total_bytes: int = 0) -> None:
        """Starts a phase: bytes count from zero again."""
        with self._lock:
            self._phase = phase
            self._message = message
            self._restart()
            self._total = total_bytes

    def expect(self, total_bytes: int) -> None:
        with self._lock:
            self._total = total_bytes

    def say(self, message: str) -> None:
        with self._lock:
            self._message = message

    def add(self, size: int) -> None:
        """Counts bytes that came over the network."""
        with self._lock:
            self._transferred += size
            self._count(size)
            self._sample()

    def found(self, size: int) -> None:
        """Counts bytes that were there already: they say nothing about the speed."""
        with self._lock:
            self._count(size)

    def lost(self, size: int) -> None:
        """Takes back bytes that have to come again."""
        with self._lock:
            self._count(-size)

    def _count(self, size: int) -> None:
        self._done += size
        self._highest = max(self._highest, self._done)

    def report(self) -> ProgressReport:
        with self._lock:
            done = min(self._highest, self._total)
            return ProgressReport(
                phase=self._phase,
                percent=self._percent(done),
                done_bytes=done,
                total_bytes=self._total,
                eta_seconds=self._eta(done),
                message=self._message,
            )

    def _percent(self, done: int) -> int:
        if self._phase is Phase.READY:
            return 100
        return 100 * done // self._total if self._total else 0

    def _sample(self) -> None:
        now = self._clock()
        if not self._samples or now - self._samples[-1][0] >= SAMPLE_SECONDS:
            self._samples.append((now, self._transferred))
        while now - self._samples[0][0] > RATE_WINDOW_SECONDS and len(self._samples) > 1:
            self._samples.popleft()

    def _eta(self, done: int) -> int | None:
        if done == self._total:
            return 0 if self._total else None
        if not self._samples:
            return None
        since, before = self._samples[0]
        elapsed = self._clock() - since
        transferred = self._transferred - before
        return round((self._total - done) * elapsed / transferred) if transferred > 0 else None
