"""The asyncio front of a model that answers items: items of many requests in common batches."""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from modelserver_runtime.engine.batch_steps import BatchEntry, BatchRules, BatchSteps, Outcome, Work
from modelserver_runtime.engine.engine import DIED
from modelserver_runtime.engine.gate import Gate, Visit
from modelserver_runtime.engine.request import Ticket
from modelserver_runtime.engine.worker import Clock, Worker
from modelserver_runtime.errors import BackendFailure, RequestFailure, RequestTimeout
from modelserver_runtime.telemetry import ModelTelemetry


@dataclass(slots=True, eq=False, kw_only=True)
class _Request(Work):
    """`begun` items are with the model or answered; `answered` of them have their answer."""

    visit: Visit
    items: Sequence[Any]
    answers: list[Any]
    done: "asyncio.Future[None]"
    begun: int = 0
    answered: int = 0
    cost: int = 0

    @property
    def running(self) -> int:
        return self.begun - self.answered


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemKind[Item]:
    """`cost` is an item's length, in what a batch's cost is measured; equal keys, equal items."""

    cost: Callable[[Item], int]
    key: Callable[[Item], Hashable]


class BatchEngine[Item]:
    """Owns the worker of a model that answers items. Used on the event loop only."""

    def __init__(  # noqa: PLR0913  the parts of one engine, each by its name
        self,
        run: Callable[[Sequence[Item]], Sequence[Any]],
        *,
        gate: Gate,
        rules: BatchRules,
        kind: ItemKind[Item],
        telemetry: ModelTelemetry,
        clock: Clock,
        probe: Callable[[], None] | None = None,
    ) -> None:
        self.gate = gate
        self._kind = kind
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._open: set[_Request] = set()
        self.worker: Worker[BatchEntry[Item, _Request], Outcome[Item, _Request]] = Worker(
            BatchSteps(run, rules, telemetry, clock, probe=probe),
            loop=self._loop,
            deliver=self._deliver,
            on_death=self._die,
            clock=clock,
        )
        self.worker.start()

    async def run(self, items: Sequence[Item], ticket: Ticket) -> list[Any | RequestFailure]:
        """The answer to each item, or why it has none, in their order."""
        cost = sum(self._kind.cost(item) for item in items)
        async with self.gate.enter(ticket, cost=cost, units=max(1, len(items))) as visit:
            request = _Request(
                ticket=ticket,
                visit=visit,
                items=items,
                answers=[None] * len(items),
                done=self._loop.create_future(),
            )
            return await self._answers(request)

    async def _answers(self, request: _Request) -> list[Any | RequestFailure]:
        self._open.add(request)
        self._advance(request)
        try:
            async with asyncio.timeout(max(0.0, request.ticket.deadline - self._clock())):
                await request.done
        except TimeoutError as error:
            raise RequestTimeout(
                f"{len(request.items)} inputs were not answered in time; send fewer or try later"
            ) from error
        finally:
            request.is_over = True
            self._open.discard(request)
        return request.answers

    def _advance(self, request: _Request) -> None:
        """Sends what there are places for; gives places back that others wait for."""
        left = len(request.items) - request.begun
        if not left and not request.running:
            self._conclude(request)
            return
        turn = request.visit.turn
        if left and not turn.is_wanted:
            turn.grow(max(0, left - turn.units + request.running))
        elif request.running:
            turn.shrink(turn.units - request.running)
        self._send(request, min(left, turn.units - request.running))

    def _send(self, request: _Request, count: int) -> None:
        now = self._clock()
        for index in range(request.begun, request.begun + count):
            item = request.items[index]
            cost = self._kind.cost(item)
            request.cost += cost
            entry: BatchEntry[Item, _Request] = BatchEntry(
                item=item,
                key=self._kind.key(item),
                cost=cost,
                work=request,
                index=index,
                sent=now,
            )
            self.worker.send(entry)
        request.begun += count

    def _deliver(self, outcomes: Iterable[Outcome[Item, _Request]]) -> None:
        touched: dict[_Request, None] = {}
        for outcome in outcomes:
            request = outcome.entry.work
            answer = outcome.value if outcome.failure is None else outcome.failure
            request.answers[outcome.entry.index] = answer
            request.answered += 1
            touched[request] = None
        for request in touched:
            if not request.is_over and not request.visit.is_over:
                self._advance(request)

    def _conclude(self, request: _Request) -> None:
        """One item that could be computed shows that the model can."""
        failures = [answer for answer in request.answers if isinstance(answer, RequestFailure)]
        if failures and len(failures) == len(request.answers):
            request.visit.fail(failures[0])
        else:
            request.visit.succeed(request.cost)
        if not request.done.done():
            request.done.set_result(None)

    def _die(self) -> None:
        self.gate.close(DIED)
        for request in self._open:
            if not request.done.done():
                request.done.set_exception(BackendFailure(DIED))
