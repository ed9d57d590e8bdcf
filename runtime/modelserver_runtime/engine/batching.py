"""Answers items of many requests in common batches: steps in the thread, and their front."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from modelserver_runtime.engine.admission import Admission
from modelserver_runtime.engine.engine import DIED
from modelserver_runtime.engine.request import Timing
from modelserver_runtime.engine.worker import Clock, Worker
from modelserver_runtime.errors import BackendFailure, RequestFailure, RequestTimeout
from modelserver_runtime.telemetry import Telemetry

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """Of one batch: its items, and the sum of their costs; one item always fits."""

    max_items: int
    max_cost: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Ticket[Item]:
    """One item on its way; `future` is only set on the event loop."""

    item: Item
    cost: int
    timing: Timing
    future: "asyncio.Future[Any]"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome[Item]:
    ticket: _Ticket[Item]
    value: Any = None
    failure: RequestFailure | None = None


class BatchSteps[Item]:
    """See `engine.worker.StepLoop`; each step runs one batch, first come first served."""

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Any]],
        limits: BatchLimits,
        telemetry: Telemetry,
        clock: Clock,
    ) -> None:
        self._run = run
        self._limits = limits
        self._telemetry = telemetry
        self._clock = clock
        self._waiting: deque[_Ticket[Item]] = deque()

    @property
    def has_work(self) -> bool:
        return bool(self._waiting)

    def accept(self, command: _Ticket[Item]) -> None:
        self._waiting.append(command)
        self._telemetry.waiting.set(len(self._waiting))

    def step(self, now: float) -> Sequence[_Outcome[Item]]:
        expired, batch = self._take(now)
        outcomes = [_expired(ticket, now) for ticket in expired]
        if batch:
            self._note(batch, now)
            outcomes.extend(self._answer(batch))
            self._telemetry.running.set(0)
            self._telemetry.step_seconds.observe(self._clock() - now)
        return outcomes

    def _take(self, now: float) -> tuple[list[_Ticket[Item]], list[_Ticket[Item]]]:
        """The tickets that came too late, and the next batch; cancelled ones vanish."""
        expired: list[_Ticket[Item]] = []
        batch: list[_Ticket[Item]] = []
        cost = 0
        while self._waiting and len(batch) < self._limits.max_items:
            ticket = self._waiting[0]
            if batch and cost + ticket.cost > self._limits.max_cost:
                break
            self._waiting.popleft()
            if ticket.future.cancelled():
                continue
            if ticket.timing.deadline <= now:
                expired.append(ticket)
                continue
            cost += ticket.cost
            batch.append(ticket)
        return expired, batch

    def _note(self, batch: Sequence[_Ticket[Item]], now: float) -> None:
        self._telemetry.batch_size.observe(len(batch))
        self._telemetry.running.set(len(batch))
        self._telemetry.waiting.set(len(self._waiting))
        for ticket in batch:
            self._telemetry.queue_seconds.observe(now - ticket.timing.arrived)

    def _answer(self, batch: Sequence[_Ticket[Item]]) -> Iterator[_Outcome[Item]]:
        """If a batch fails, each item is tried alone, so that only the one at fault fails."""
        try:
            values = self._run([ticket.item for ticket in batch])
            pairs = list(zip(batch, values, strict=True))
        except RequestFailure as failure:
            yield from self._isolate(batch, failure)
        except Exception as error:
            log.exception("A batch of %d items failed", len(batch))
            sentence = f"The model could not compute this input: {str(error).partition('\n')[0]}"
            yield from self._isolate(batch, BackendFailure(sentence))
        else:
            for ticket, value in pairs:
                yield _Outcome(ticket=ticket, value=value)

    def _isolate(
        self, batch: Sequence[_Ticket[Item]], failure: RequestFailure
    ) -> Iterator[_Outcome[Item]]:
        if len(batch) > 1:
            for ticket in batch:
                yield from self._answer([ticket])
        else:
            if isinstance(failure, BackendFailure):
                self._telemetry.failures.inc()
            yield _Outcome(ticket=batch[0], failure=failure)


def _expired[Item](ticket: _Ticket[Item], now: float) -> _Outcome[Item]:
    waited = now - ticket.timing.arrived
    failure = RequestTimeout(f"The input waited {waited:.0f} s for its turn; try again later")
    return _Outcome(ticket=ticket, failure=failure)


class BatchEngine[Item]:
    """Owns the worker of a model that answers items. Used on the event loop only."""

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Any]],
        *,
        limits: BatchLimits,
        max_waiting: int,
        telemetry: Telemetry,
        clock: Clock,
        cost: Callable[[Item], int] = lambda _: 1,
    ) -> None:
        self.admission = Admission(parallel=limits.max_items, waiting=max_waiting, clock=clock)
        self._cost = cost
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._open: set[asyncio.Future[Any]] = set()
        self.worker: Worker[_Ticket[Item], _Outcome[Item]] = Worker(
            BatchSteps(run, limits, telemetry, clock),
            loop=self._loop,
            deliver=self._deliver,
            on_death=self._die,
            clock=clock,
        )
        self.worker.start()

    async def run(self, items: Sequence[Item], timing: Timing) -> list[Any | RequestFailure]:
        """The answer to each item, or why it has none, in their order."""
        with self.admission.enter():
            futures = [self._send(item, timing) for item in items]
            try:
                async with asyncio.timeout(max(0.0, timing.deadline - self._clock())):
                    return await asyncio.gather(*futures, return_exceptions=True)
            except TimeoutError as error:
                raise RequestTimeout(
                    f"{len(items)} inputs were not answered in time; send fewer or try later"
                ) from error
            finally:
                for future in futures:
                    future.cancel()
                self._open.difference_update(futures)

    def _send(self, item: Item, timing: Timing) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = self._loop.create_future()
        self._open.add(future)
        ticket = _Ticket(item=item, cost=self._cost(item), timing=timing, future=future)
        self.worker.send(ticket)
        return future

    def _deliver(self, outcomes: Sequence[_Outcome[Item]]) -> None:
        for outcome in outcomes:
            future = outcome.ticket.future
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
