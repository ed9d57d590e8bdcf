"""Answers items of many requests in common batches: steps in the thread, and their front."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from modelserver_runtime.engine.admission import Admission
from modelserver_runtime.engine.engine import DIED
from modelserver_runtime.engine.request import Ticket
from modelserver_runtime.engine.worker import Clock, Worker
from modelserver_runtime.errors import BackendFailure, RequestFailure, RequestTimeout
from modelserver_runtime.telemetry import ModelTelemetry

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """Of one batch: its items, and the sum of their costs; one item always fits."""

    max_items: int
    max_cost: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Entry[Item]:
    """One item on its way; `future` is only set on the event loop."""

    item: Item
    cost: int
    ticket: Ticket
    future: "asyncio.Future[Any]"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome[Item]:
    entry: _Entry[Item]
    value: Any = None
    failure: RequestFailure | None = None


class BatchSteps[Item]:
    """See `engine.worker.StepLoop`; each step runs one batch, first come first served."""

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Any]],
        limits: BatchLimits,
        telemetry: ModelTelemetry,
        clock: Clock,
    ) -> None:
        self._run = run
        self._limits = limits
        self._telemetry = telemetry
        self._clock = clock
        self._waiting: deque[_Entry[Item]] = deque()

    @property
    def has_work(self) -> bool:
        return bool(self._waiting)

    def accept(self, command: _Entry[Item]) -> None:
        self._waiting.append(command)
        self._telemetry.waiting.set(len(self._waiting))

    def step(self, now: float) -> Sequence[_Outcome[Item]]:
        expired, batch = self._take(now)
        outcomes = [_expired(entry, now) for entry in expired]
        if batch:
            self._note(batch, now)
            outcomes.extend(self._answer(batch))
            self._telemetry.running.set(0)
            self._telemetry.step_seconds.observe(self._clock() - now)
        return outcomes

    def _take(self, now: float) -> tuple[list[_Entry[Item]], list[_Entry[Item]]]:
        """The entries that came too late, and the next batch; cancelled ones vanish."""
        expired: list[_Entry[Item]] = []
        batch: list[_Entry[Item]] = []
        cost = 0
        while self._waiting and len(batch) < self._limits.max_items:
            entry = self._waiting[0]
            if batch and cost + entry.cost > self._limits.max_cost:
                break
            self._waiting.popleft()
            if entry.future.cancelled():
                continue
            if entry.ticket.deadline <= now:
                expired.append(entry)
                continue
            cost += entry.cost
            batch.append(entry)
        return expired, batch

    def _note(self, batch: Sequence[_Entry[Item]], now: float) -> None:
        self._telemetry.batch_size.observe(len(batch))
        self._telemetry.running.set(len(batch))
        self._telemetry.waiting.set(len(self._waiting))
        for entry in batch:
            self._telemetry.queue_seconds.observe(now - entry.ticket.arrived)

    def _answer(self, batch: Sequence[_Entry[Item]]) -> Iterator[_Outcome[Item]]:
        """If a batch fails, each item is tried alone, so that only the one at fault fails."""
        try:
            values = self._run([entry.item for entry in batch])
            pairs = list(zip(batch, values, strict=True))
        except RequestFailure as failure:
            yield from self._isolate(batch, failure)
        except Exception as error:
            log.exception("A batch of %d items failed", len(batch))
            sentence = f"The model could not compute this input: {str(error).partition('\n')[0]}"
            yield from self._isolate(batch, BackendFailure(sentence))
        else:
            for entry, value in pairs:
                yield _Outcome(entry=entry, value=value)

    def _isolate(
        self, batch: Sequence[_Entry[Item]], failure: RequestFailure
    ) -> Iterator[_Outcome[Item]]:
        if len(batch) > 1:
            for entry in batch:
                yield from self._answer([entry])
        else:
            if isinstance(failure, BackendFailure):
                self._telemetry.failures.inc()
            yield _Outcome(entry=batch[0], failure=failure)


def _expired[Item](entry: _Entry[Item], now: float) -> _Outcome[Item]:
    waited = now - entry.ticket.arrived
    failure = RequestTimeout(f"The input waited {waited:.0f} s for its turn; try again later")
    return _Outcome(entry=entry, failure=failure)


class BatchEngine[Item]:
    """Owns the worker of a model that answers items. Used on the event loop only."""

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Any]],
        *,
        limits: BatchLimits,
        max_waiting: int,
        telemetry: ModelTelemetry,
        clock: Clock,
        cost: Callable[[Item], int] = lambda _: 1,
    ) -> None:
        self.admission = Admission(parallel=limits.max_items, waiting=max_waiting, clock=clock)
        self._cost = cost
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._open: set[asyncio.Future[Any]] = set()
        self.worker: Worker[_Entry[Item], _Outcome[Item]] = Worker(
            BatchSteps(run, limits, telemetry, clock),
            loop=self._loop,
            deliver=self._deliver,
            on_death=self._die,
            clock=clock,
        )
        self.worker.start()

    async def run(self, items: Sequence[Item], ticket: Ticket) -> list[Any | RequestFailure]:
        """The answer to each item, or why it has none, in their order."""
        with self.admission.enter():
            futures = [self._send(item, ticket) for item in items]
            try:
                async with asyncio.timeout(max(0.0, ticket.deadline - self._clock())):
                    return await asyncio.gather(*futures, return_exceptions=True)
            except TimeoutError as error:
                raise RequestTimeout(
                    f"{len(items)} inputs were not answered in time; send fewer or try later"
                ) from error
            finally:
                for future in futures:
                    future.cancel()
                self._open.difference_update(futures)

    def _send(self, item: Item, ticket: Ticket) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = self._loop.create_future()
        self._open.add(future)
        entry = _Entry(item=item, cost=self._cost(item), ticket=ticket, future=future)
        self.worker.send(entry)
        return future

    def _deliver(self, outcomes: Sequence[_Outcome[Item]]) -> None:
        for outcome in outcomes:
            future = outcome.entry.future
            if future.done():
                continue
            if outcome.failure is None:
                future.set_result(outcome.value)
            else:
                future.set_exception(outcome.failure)

    def _die(self) -> None:
        self.admission.close(DIED)
        for future in self._open:
            if not future.done():
                future.set_exception(BackendFailure(DIED))
