"""The two ways to count, as pure objects: every reading of the clock is an argument, in seconds."""

import math
from typing import Protocol

from modelserver_runtime.access.limits.charge import (
    WINDOW_SECONDS,
    Algorithm,
    Charge,
    Unit,
    Verdict,
)

# The window moves in steps: an event counts for a minute and up to one step more, never for less.
STEP_SECONDS = 1
STEPS = WINDOW_SECONDS // STEP_SECONDS
# Rounding of sums of binary fractions; a millionth of a second's inflow admits nothing.
ROUNDING_SECONDS = 1e-6


class Meter(Protocol):
    """`look` judges and changes nothing; `take` takes what `look` has admitted.

    `correct` adds what was really used to what was taken at `stamp`, or gives it back.
    """

    def look(self, charge: Charge, now: float) -> Verdict: ...

    def take(self, charge: Charge, now: float) -> None: ...

    def correct(self, charge: Charge, delta: int, stamp: float, now: float) -> None: ...

    def is_idle(self, now: float) -> bool:
        """Whether a new meter would say the same."""
        ...


class SlidingWindow:
    """Sums by steps of the clock; a sum counts until its whole step is older than the window."""

    def __init__(self) -> None:
        self._sums: dict[int, int] = {}

    def look(self, charge: Charge, now: float) -> Verdict:
        self._forget(now)
        used = sum(self._sums.values())
        return Verdict(
            unit=charge.unit,
            subject=charge.subject,
            limit=charge.limit,
            remaining=max(0, charge.limit - used),
            wait_seconds=self._wait(used + charge.cost - charge.limit, now),
            reset_seconds=self._wait(used, now),
        )

    def take(self, charge: Charge, now: float) -> None:
        self._add(_step(now), charge.cost)

    def correct(self, charge: Charge, delta: int, stamp: float, now: float) -> None:
        """What was given back was taken then; what was used beyond it is used now."""
        del charge
        step = _step(now if delta > 0 else stamp)
        self._forget(now)
        if delta > 0:
            self._add(step, delta)
        elif step in self._sums:
            self._sums[step] = max(0, self._sums[step] + delta)

    def is_idle(self, now: float) -> bool:
        self._forget(now)
        return not self._sums

    def _add(self, step: int, amount: int) -> None:
        self._sums[step] = self._sums.get(step, 0) + amount

    def _forget(self, now: float) -> None:
        oldest = _step(now) - STEPS
        for step in [step for step in self._sums if step < oldest]:
            del self._sums[step]

    def _wait(self, excess: int, now: float) -> float:
        """Until `excess` of what is counted counts no more."""
        if excess <= 0:
            return 0.0
        for step in sorted(self._sums):
            excess -= self._sums[step]
            if excess <= 0:
                return (step + STEPS + 1) * STEP_SECONDS - now
        return float(WINDOW_SECONDS)


class TokenBucket:
    """Kept as the time at which the bucket will be full again, which needs no timer."""

    def __init__(self) -> None:
        self._full_at = -math.inf

    def look(self, charge: Charge, now: float) -> Verdict:
        missing = self._missing_seconds(now)
        rate = charge.limit / WINDOW_SECONDS
        wait = missing + (charge.cost - charge.burst) / rate
        return Verdict(
            unit=charge.unit,
            subject=charge.subject,
            limit=charge.limit,
            remaining=max(0, math.floor(charge.burst - (missing - ROUNDING_SECONDS) * rate)),
            wait_seconds=wait if wait > ROUNDING_SECONDS else 0.0,
            reset_seconds=missing,
        )

    def take(self, charge: Charge, now: float) -> None:
        rate = charge.limit / WINDOW_SECONDS
        self._full_at = now + self._missing_seconds(now) + charge.cost / rate

    def correct(self, charge: Charge, delta: int, stamp: float, now: float) -> None:
        """Beyond an empty bucket there is a debt: it is paid before anything is admitted."""
        del stamp
        seconds = delta * WINDOW_SECONDS / charge.limit
        self._full_at = now + max(0.0, self._missing_seconds(now) + seconds)

    def is_idle(self, now: float) -> bool:
        return not self._missing_seconds(now)

    def _missing_seconds(self, now: float) -> float:
        return max(0.0, self._full_at - now)


def make_meter(algorithm: Algorithm) -> Meter:
    match algorithm:
        case Algorithm.SLIDING_WINDOW:
            return SlidingWindow()
        case Algorithm.TOKEN_BUCKET:
            return TokenBucket()


def slot_verdict(subject: str, limit: int, taken: int) -> Verdict:
    """`taken` are the places of others; when one becomes free nobody knows, so try in a second."""
    is_full = taken >= limit
    return Verdict(
        unit=Unit.CONCURRENT,
        subject=subject,
        limit=limit,
        remaining=max(0, limit - taken - (not is_full)),
        wait_seconds=1.0 if is_full else 0.0,
    )


def _step(now: float) -> int:
    return int(now // STEP_SECONDS)
