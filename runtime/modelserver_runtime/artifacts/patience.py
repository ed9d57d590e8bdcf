"""How long to go on with a hub that does not answer: backoff within a budget."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event

from modelserver_runtime.errors import ArtifactUnreachable


class TransientFailure(Exception):
    """The hub may answer later; `retry_after_seconds` is its own wish, if it had one."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Abandoned(Exception):
    """Another file has failed for good, so this one is not worth waiting for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Delays in seconds: the first after a failure, and the longest."""

    first_seconds: float = 1.0
    longest_seconds: float = 30.0


class Patience:
    """One action's tolerance of failures; used by one thread."""

    def __init__(
        self,
        budget_seconds: float,
        *,
        announce: Callable[[str], None],
        stop: Event | None = None,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,  # noqa: TID251  the one default; tests pass theirs
    ) -> None:
        self._budget = budget_seconds
        self._announce = announce
        self._stop = stop or Event()
        self._pace = pace or Pace()
        self._clock = clock
        self.renew()

    def renew(self) -> None:
        """Forgets the failures: the hub has just been of use."""
        self._failures = 0
        self._failing_since: float | None = None

    def persist[T](self, action: Callable[[], T]) -> T:
        """Repeats `action` while it fails with TransientFailure and the budget lasts."""
        while True:
            try:
                return action()
            except TransientFailure as failure:
                self._wait(failure)

    def _wait(self, failure: TransientFailure) -> None:
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
        left = self._failing_since + self._budget - now
        delay = failure.retry_after_seconds
        if delay is None:
            delay = self._backoff()
        self._failures += 1
        if delay > left:
            raise self._exhausted(failure, now - self._failing_since) from failure
        self._announce(f"{failure}; trying again in {delay:.0f} s")
        if self._stop.wait(delay):
            raise Abandoned

    def _backoff(self) -> float:
        delay = min(self._pace.longest_seconds, self._pace.first_seconds * 2.0**self._failures)
        return delay * random.uniform(0.75, 1.25)  # noqa: S311  jitter, so that pods do not return together

    def _exhausted(self, failure: TransientFailure, waited_seconds: float) -> ArtifactUnreachable:
        wish = failure.retry_after_seconds
        asked = f", which asks to wait {wish:.0f} s" if wish is not None else ""
        tries = "1 attempt" if self._failures == 1 else f"{self._failures} attempts"
        return ArtifactUnreachable(
            f"{failure}{asked}; gave up after {tries} in {waited_seconds:.0f} s",
            hint="Check that it is up, and that pods may reach it (network policy, proxy, DNS).",
        )
