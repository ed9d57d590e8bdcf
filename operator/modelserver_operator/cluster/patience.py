"""How long to wait before trying again, and how to wait."""

import asyncio
import random

_chance = random.SystemRandom()


class Backoff:
    """Exponential delays with jitter: who failed together does not come back together."""

    def __init__(self, *, first_seconds: float, longest_seconds: float) -> None:
        self._first = first_seconds
        self._longest = longest_seconds
        self._failures = 0

    @property
    def failures(self) -> int:
        return self._failures

    def reset(self) -> None:
        self._failures = 0

    def next_seconds(self, at_least: float | None = None) -> float:
        """The next delay; `at_least` is what a server asked for (Retry-After)."""
        delay = delay_after(self._failures, first=self._first, longest=self._longest)
        self._failures += 1
        return max(delay, at_least or 0.0)


def delay_after(failures: int, *, first: float, longest: float) -> float:
    """Between half and all of `first` doubled `failures` times, at most `longest` seconds."""
    full = min(longest, first * 2.0 ** min(failures, 30))
    return full * _chance.uniform(0.5, 1.0)


def jittered(seconds: float, *, part: float = 0.1) -> float:
    return seconds * _chance.uniform(1 - part, 1 + part)


async def pause(seconds: float, until: asyncio.Event | None = None) -> bool:
    """Waits `seconds`, or less if the event is set before; says whether it was."""
    try:
        async with asyncio.timeout(seconds):
            return await (until or asyncio.Event()).wait()
    except TimeoutError:
        return False
