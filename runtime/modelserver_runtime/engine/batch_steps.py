"""The steps of a model that answers items: batch → run → answers, in the model's thread."""

import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelserver_runtime.backends.base import failure_class_of
from modelserver_runtime.engine.batch_composition import BatchLimits, compose
from modelserver_runtime.engine.batch_window import ArrivalWindow
from modelserver_runtime.engine.latency import LatencyModel
from modelserver_runtime.engine.request import Ticket
from modelserver_runtime.engine.worker import Clock
from modelserver_runtime.errors import BackendFailure, RequestFailure, RequestTimeout
from modelserver_runtime.telemetry import ModelTelemetry

log = logging.getLogger(__name__)

type Run[Item] = Callable[[Sequence[Item]], Sequence[Any]]


@dataclass(slots=True, eq=False, kw_only=True)
class Work:
    """What entries of one request share; `is_over` is only written on the event loop."""

    ticket: Ticket
    is_over: bool = False


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class BatchEntry[Item, W: Work]:
    """One item on its way; equal items have equal keys. `sent` is a reading of the clock."""

    item: Item
    key: Hashable
    cost: int
    work: W
    index: int
    sent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome[Item, W: Work]:
    entry: BatchEntry[Item, W]
    value: Any = None
    failure: RequestFailure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRules:
    limits: BatchLimits
    max_wait_seconds: float


@dataclass(slots=True, kw_only=True)
class _Answers[Item]:
    """What came of a batch, by key."""

    values: dict[Hashable, Any] = field(default_factory=dict)
    failures: dict[Hashable, RequestFailure] = field(default_factory=dict)


class BatchSteps[Item, W: Work]:
    """See `engine.worker.StepLoop`; each step runs one batch."""

    def __init__(
        self,
        run: Run[Item],
        rules: BatchRules,
        telemetry: ModelTelemetry,
        clock: Clock,
        *,
        probe: Callable[[], None] | None = None,
    ) -> None:
        """`probe` computes a sample of the model's own, and raises if it cannot."""
        self._run = run
        self._probe = probe
        self._limits = rules.limits
        self._telemetry = telemetry
        self._clock = clock
        self._window = ArrivalWindow(rules.max_wait_seconds)
        self._latency = LatencyModel()
        self._waiting: dict[BatchEntry[Item, W], None] = {}
        self._last_work: W | None = None
        self._held_since: float | None = None

    @property
    def has_work(self) -> bool:
        return bool(self._waiting)

    def accept(self, command: BatchEntry[Item, W]) -> None:
        if command.work is not self._last_work:
            # Items of one request come together; that says nothing about the next request.
            self._window.note_arrival(command.sent)
            self._last_work = command.work
        self._waiting[command] = None
        self._telemetry.note_waiting("batch", len(self._waiting))

    def patience(self, now: float) -> float:
        """How much longer to wait for more items before the next step."""
        if not self._waiting or len(self._waiting) >= self._limits.max_items:
            return 0.0
        cost = self._limits.cost([entry.cost for entry in self._waiting])
        if cost >= self._limits.max_cost or not self._latency.is_trained:
            return 0.0
        patience = self._window.patience(
            now=now,
            waiting=len(self._waiting),
            oldest=next(iter(self._waiting)).sent,
            batch_seconds=self._latency.predict(cost),
        )
        if patience > 0 and self._held_since is None:
            self._held_since = now
        return patience

    def step(self, now: float) -> Sequence[Outcome[Item, W]]:
        outcomes = list(self._drop_late(now))
        groups = self._grouped()
        if groups:
            batch = self._take(groups)
            self._note(batch, now)
            outcomes.extend(self._answer(batch))
            self._telemetry.running.set(0)
            self._telemetry.step_seconds.observe(self._clock() - now)
        return outcomes

    def _drop_late(self, now: float) -> Iterator[Outcome[Item, W]]:
        """Cancelled ones vanish, and those that came too late are told so."""
        for entry in list(self._waiting):
            is_late = entry.work.ticket.deadline <= now
            if entry.work.is_over or is_late:
                del self._waiting[entry]
            if is_late and not entry.work.is_over:
                yield _expired(entry, now)

    def _grouped(self) -> list[list[BatchEntry[Item, W]]]:
        """Equal items together: they are computed once."""
        groups: dict[Hashable, list[BatchEntry[Item, W]]] = {}
        for entry in self._waiting:
            groups.setdefault(entry.key, []).append(entry)
        return list(groups.values())

    def _take(self, groups: Sequence[list[BatchEntry[Item, W]]]) -> list[list[BatchEntry[Item, W]]]:
        costs = [group[0].cost for group in groups]
        batch = [groups[index] for index in compose(costs, self._limits, self._latency)]
        for group in batch:
            for entry in group:
                del self._waiting[entry]
        return batch

    def _note(self, batch: Sequence[list[BatchEntry[Item, W]]], now: float) -> None:
        telemetry = self._telemetry
        entries = sum(len(group) for group in batch)
        costs = [group[0].cost for group in batch]
        telemetry.batch_size.observe(len(batch))
        telemetry.running.set(entries)
        telemetry.note_waiting("batch", len(self._waiting))
        telemetry.batch_wait_seconds.observe(
            0.0 if self._held_since is None else now - self._held_since
        )
        cost = self._limits.cost(costs)
        telemetry.batch_cost.inc(cost)
        telemetry.batch_padding.inc(cost - sum(costs))
        telemetry.duplicates.inc(entries - len(batch))
        self._held_since = None

    def _answer(self, batch: Sequence[list[BatchEntry[Item, W]]]) -> Iterator[Outcome[Item, W]]:
        began = self._clock()
        answers: _Answers[Item] = _Answers()
        self._compute([group[0] for group in batch], answers)
        ended = self._clock()
        if not answers.failures:
            cost = self._limits.cost([group[0].cost for group in batch])
            self._latency.observe(cost, ended - began)
        for group in batch:
            for entry in group:
                entry.work.ticket.timing.note_computed(ended)
                failure = answers.failures.get(entry.key)
                value = None if failure else answers.values[entry.key]
                yield Outcome(entry=entry, value=value, failure=failure)

    def _compute(self, entries: Sequence[BatchEntry[Item, W]], answers: _Answers[Item]) -> None:
        """If a batch fails, each half is tried, so that only the item at fault fails.

        One bad item of n costs about 2 log n runs more, where trying each alone would cost n.
        """
        try:
            values = self._run([entry.item for entry in entries])
            answers.values.update(zip([entry.key for entry in entries], values, strict=True))
        except RequestFailure as failure:
            self._isolate(entries, failure, answers)
        except Exception as error:
            log.exception("A batch of %d items failed", len(entries))
            self._isolate(entries, _backend_failure(error), answers)

    def _isolate(
        self,
        entries: Sequence[BatchEntry[Item, W]],
        failure: RequestFailure,
        answers: _Answers[Item],
    ) -> None:
        if len(entries) > 1:
            middle = len(entries) // 2
            self._compute(entries[:middle], answers)
            self._compute(entries[middle:], answers)
            return
        if isinstance(failure, BackendFailure):
            self._telemetry.failures.inc()
            failure = self._judged(failure)
        answers.failures[entries[0].key] = failure

    def _judged(self, failure: BackendFailure) -> BackendFailure:
        """Says whose fault it is: a model that computes its own sample is well.

        Otherwise a few inputs that it cannot compute would take it away from everybody.
        """
        if self._probe is None:
            return failure
        try:
            self._probe()
        except Exception:
            log.exception("The model cannot compute its own sample either")
            return failure
        return BackendFailure(
            failure.message, failure_class=failure.failure_class, is_of_input=True
        )


def _backend_failure(error: Exception) -> BackendFailure:
    return BackendFailure(
        f"The model could not compute this input: {str(error).partition('\n')[0]}",
        failure_class=failure_class_of(error),
    )


def _expired[Item, W: Work](entry: BatchEntry[Item, W], now: float) -> Outcome[Item, W]:
    waited = now - entry.work.ticket.arrived
    failure = RequestTimeout(f"The input waited {waited:.0f} s for its turn; try again later")
    return Outcome(entry=entry, failure=failure)
