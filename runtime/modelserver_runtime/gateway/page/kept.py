"""What was made a moment ago, for who asks for the same: many who look cost as much as one.

With a thousand models a look takes tens of milliseconds, while others wait for answers of models.
"""

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass

# Less than the page waits between two looks, so that each of them has something new.
_LEAST_SECONDS = 0.5
# So many times as long as it took to make it: looking takes a tenth of the time at most.
_TIMES = 9
# Of those who look with keys and searches of their own.
_MOST = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    content: bytes
    until: float


class Kept:
    """`clock` is monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: dict[Hashable, _Entry] = {}
        self._making = asyncio.Lock()

    async def get(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """Made beside the loop, one at a time."""
        async with self._making:
            began = self._clock()
            known = self._entries.pop(key, None)
            if known is None or known.until <= began:
                content = await asyncio.to_thread(make)
                now = self._clock()
                lasting = max(_LEAST_SECONDS, _TIMES * (now - began))
                known = _Entry(content=content, until=now + lasting)
            self._entries[key] = known
            while len(self._entries) > _MOST:
                del self._entries[next(iter(self._entries))]
            return known.content
