"""The workers of the queue: they run only while this replica leads."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from modelserver_operator.cluster.client import ObjectName
from modelserver_operator.errors import (
    ClusterError,
    Conflict,
    NotFound,
    NotLeading,
    OperatorError,
)
from modelserver_operator.reconciler.queue import WorkQueue
from modelserver_operator.reconciler.reconciler import Verdict

# One ModelServer may be written this often without a pause: a revision change takes about five
# passes. Beyond, somebody undoes what we write, and we must not race against him.
FREE_PASSES = 12
WINDOW_SECONDS = 60.0
PAUSE_SECONDS = 10.0

log = logging.getLogger(__name__)


class ReconcileObserver(Protocol):
    """Told how each reconciliation ended: `settled`, `wrote`, `decided`, or the error's name."""

    def reconciled(self, result: str, seconds: float) -> None: ...


class Throttle:
    """Lets a key write freely, but not for ever: somebody may be undoing what we write."""

    def __init__(self) -> None:
        self._writes: dict[ObjectName, deque[float]] = {}

    def wrote(self, key: ObjectName, now: float) -> None:
        self._writes.setdefault(key, deque(maxlen=FREE_PASSES)).append(now)

    def forgive(self, key: ObjectName) -> None:
        """What was written follows from a decision of our own, and the next writes will, too."""
        self._writes.pop(key, None)

    def wait_seconds(self, key: ObjectName, now: float) -> float:
        """0 while the key has written less than FREE_PASSES times in the window."""
        writes = self._writes.get(key)
        if not writes:
            return 0.0
        if writes[-1] < now - WINDOW_SECONDS:
            del self._writes[key]
            return 0.0
        crowded = len(writes) == FREE_PASSES and writes[0] > now - WINDOW_SECONDS
        return max(0.0, writes[-1] + PAUSE_SECONDS - now) if crowded else 0.0


class Workers:
    """Take keys, reconcile them, and decide when each is looked at again."""

    def __init__(
        self,
        queue: WorkQueue[ObjectName],
        reconcile: Callable[[ObjectName], Awaitable[Verdict]],
        observer: ReconcileObserver,
        *,
        concurrency: int,
    ) -> None:
        self._queue = queue
        self._reconcile = reconcile
        self._observer = observer
        self._concurrency = concurrency
        self._throttle = Throttle()

    async def run(self) -> None:
        """Until cancelled, or until the queue is closed; then what was begun ends first."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._concurrency):
                group.create_task(self._work())

    async def _work(self) -> None:
        while (key := await self._queue.get()) is not None:
            try:
                await self._process(key)
            finally:
                self._queue.done(key)

    async def _process(self, key: ObjectName) -> None:
        now = asyncio.get_running_loop().time
        begun = now()
        if seconds := self._throttle.wait_seconds(key, begun):
            log.warning("%s/%s: what we write is undone by somebody; pausing", *_name(key))
            self._queue.add_after(key, seconds)
            return
        result = await self._attempt(key)
        if result == "wrote":
            self._throttle.wrote(key, now())
        elif result == "decided":
            self._throttle.forgive(key)
        self._observer.reconciled(result, now() - begun)

    async def _attempt(self, key: ObjectName) -> str:
        try:
            verdict = await self._reconcile(key)
        except NotLeading:
            return "NotLeading"  # the leader has this key in its own queue
        except (Conflict, NotFound) as stale:
            seconds = self._queue.retry(key)
            log.info("%s/%s changed meanwhile: %s; again in %.1f s", *_name(key), stale, seconds)
            return type(stale).__name__
        except OperatorError as failure:
            return self._failed(key, failure)
        except Exception:  # the outermost loop: one key must not end the rest
            log.exception("%s/%s cannot be reconciled", *_name(key))
            self._queue.retry(key)
            return "Bug"
        return self._schedule(key, verdict)

    def _failed(self, key: ObjectName, failure: OperatorError) -> str:
        wanted = getattr(failure, "retry_after_seconds", None)
        seconds = self._queue.retry(key, at_least=wanted)
        level = logging.WARNING if isinstance(failure, ClusterError) else logging.ERROR
        log.log(level, "%s/%s: %s; again in %.1f s", *_name(key), failure, seconds)
        return type(failure).__name__

    def _schedule(self, key: ObjectName, verdict: Verdict) -> str:
        if verdict.unsettled and not verdict.decided:
            self._queue.retry(key)
            return "unsettled"
        self._queue.succeeded(key)
        if verdict.again_after_seconds is not None:
            self._queue.add_after(key, verdict.again_after_seconds)
        if verdict.decided:
            return "decided"
        return "wrote" if verdict.wrote else "settled"


def _name(key: ObjectName) -> tuple[str, str]:
    return key.namespace, key.name
