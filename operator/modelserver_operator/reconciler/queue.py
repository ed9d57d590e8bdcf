"""The work queue: which ModelServers to look at, one at a time each, and when again."""

import asyncio
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from modelserver_operator.cluster.patience import delay_after

FIRST_RETRY_SECONDS = 0.2
LONGEST_RETRY_SECONDS = 60.0


@dataclass(slots=True)
class _Waiting[K: Hashable]:
    """Keys that shall be looked at, in order, each with when it was first asked for."""

    since: dict[K, float] = field(default_factory=dict)
    line: deque[K] = field(default_factory=deque)


class WorkQueue[K: Hashable]:
    """A key is in the line at most once, and is never handed out while somebody works on it.

        add ──> waiting ──get──> processing ──done──> (waiting again, if added meanwhile)
         ^                            │
         └── add_after, retry <───────┘

    Only keys travel here, never what happened: whoever takes a key looks at the world anew.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: _Waiting[K] = _Waiting()
        self._again: dict[K, float] = {}  # added while being processed, and when
        self._processing: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._ready = asyncio.Semaphore(0)
        self._closed = False

    @property
    def depth(self) -> int:
        return len(self._waiting.since)

    @property
    def in_progress(self) -> int:
        return len(self._processing)

    @property
    def retrying(self) -> int:
        return len(self._failures)

    def oldest_seconds(self) -> float:
        """How long the longest waiting key has waited."""
        since = min(self._waiting.since.values(), default=self._loop.time())
        return self._loop.time() - since

    def add(self, key: K) -> None:
        if key in self._waiting.since:
            return
        if key in self._processing:
            self._again.setdefault(key, self._loop.time())
            return
        self._append(key, self._loop.time())

    def add_after(self, key: K, seconds: float) -> None:
        """The earlier of two deadlines counts; taking the key from the line forgets it."""
        known = self._timers.get(key)
        due = self._loop.time() + seconds
        if known and known.when() <= due:
            return
        if known:
            known.cancel()
        self._timers[key] = self._loop.call_at(due, self._due, key)

    async def get(self) -> K | None:
        """None when the queue is closed; the keys that wait are left."""
        await self._ready.acquire()
        if self._closed:
            self._ready.release()
            return None
        key = self._waiting.line.popleft()
        del self._waiting.since[key]
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._processing.add(key)
        return key

    @property
    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True
        self._ready.release()

    def absorb(self, key: K) -> None:
        """Whoever works on the key is about to see all that has happened up to now."""
        self._again.pop(key, None)

    def done(self, key: K) -> None:
        """Must follow every `get`."""
        self._processing.discard(key)
        since = self._again.pop(key, None)
        if since is not None:
            self._append(key, since)

    def succeeded(self, key: K) -> None:
        self._failures.pop(key, None)

    def retry(self, key: K, at_least: float | None = None) -> float:
        """Comes back after a delay that doubles with every failure in a row; returns it."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = delay_after(failures, first=FIRST_RETRY_SECONDS, longest=LONGEST_RETRY_SECONDS)
        seconds = max(delay, at_least or 0.0)
        self.add_after(key, seconds)
        return seconds

    def forget(self, key: K) -> None:
        """Nothing is left of this key; no deadline, no failures."""
        self._failures.pop(key, None)
        if timer := self._timers.pop(key, None):
            timer.cancel()

    def _append(self, key: K, since: float) -> None:
        self._waiting.since[key] = since
        self._waiting.line.append(key)
        self._ready.release()

    def _due(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)
