"""The way into one model: its turns, its circuits, and what is known about how long it takes.

    closed? ─▶ circuit open? ─▶ deadline out of reach? ─▶ queue full? ─▶ turn too late? ─▶ model
      503          503                   429                  429             504

Nobody is refused because of a prediction who would not have to wait: an idle model is always
tried, and so a wrong prediction is corrected.
"""

from collections import Counter
from enum import StrEnum
from types import TracebackType
from typing import Self

from modelserver_runtime.engine.breaker import Breaker, CircuitIsOpen, CircuitState, Permit
from modelserver_runtime.engine.latency import LatencyModel
from modelserver_runtime.engine.queue import Entry
from modelserver_runtime.engine.request import Priority, Ticket
from modelserver_runtime.engine.statistics import (
    Account,
    Accounts,
    QueueStatistics,
    priority_statistics,
)
from modelserver_runtime.engine.turns import NoTurn, Obstacle, Turn, Turns, Waiter
from modelserver_runtime.engine.worker import Clock
from modelserver_runtime.errors import (
    BackendFailure,
    CircuitOpen,
    DeadlineUnreachable,
    FailureClass,
    NotReady,
    Overloaded,
    QueueTimeout,
    RequestFailure,
)
from modelserver_runtime.telemetry import ModelTelemetry

# The circuits that concern a request without a grammar.
PLAIN = frozenset(FailureClass) - {FailureClass.GRAMMAR}
CONSTRAINED = frozenset(FailureClass)

_LONGEST_RETRY_SECONDS = 60.0
# A turn that is over in no time would make refused clients come back at once, all together.
_SHORTEST_RETRY_SECONDS = 0.01
_RETRY_WHEN_CLOSED_SECONDS = 5.0


_STRANGER = "a tenant that nobody knows"
_LEVELS = {CircuitState.CLOSED: 0, CircuitState.HALF_OPEN: 1, CircuitState.OPEN: 2}
_WORDS = {
    FailureClass.OUT_OF_MEMORY: "it has not enough memory",
    FailureClass.INVALID_OUTPUT: "it computes no numbers",
    FailureClass.STEP_TIMEOUT: "it does not come to an end",
    FailureClass.BACKEND_ERROR: "it breaks off",
    FailureClass.GRAMMAR: "it cannot follow grammars",
}


class Refusal(StrEnum):
    """Values of the label `reason`."""

    QUEUE_FULL = "queue_full"
    DISPLACED = "displaced"
    DEADLINE = "deadline"
    QUEUE_TIMEOUT = "queue_timeout"
    CIRCUIT_OPEN = "circuit_open"
    CLOSED = "closed"


class Visit:
    """A request's stay in the model: `async with gate.enter(...) as visit`.

    Whoever works for it says once how it went, by `succeed` or `fail`, as soon as the model has no
    more work with it; leaving without a word tells nothing about the model.
    """

    __slots__ = ("_gate", "_permit", "_turn", "concerned", "cost", "ticket", "units")

    def __init__(
        self,
        gate: "Gate",
        ticket: Ticket,
        *,
        cost: float,
        units: int,
        concerned: frozenset[FailureClass],
    ) -> None:
        self._gate = gate
        self._permit: Permit | None = None
        self._turn: Turn | None = None
        self.ticket = ticket
        self.cost = cost
        self.units = units
        self.concerned = concerned

    async def __aenter__(self) -> Self:
        self._permit = self._gate.permit(self)
        try:
            self._turn = await self._gate.turn_of(self)
        except BaseException:
            self._drop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._drop()

    @property
    def turn(self) -> Turn:
        if self._turn is None:
            raise RuntimeError("the visit has not begun, or is over")
        return self._turn

    @property
    def is_over(self) -> bool:
        return self._turn is None

    def succeed(self, cost: float) -> None:
        """The model has done its work, which was `cost`."""
        turn, permit = self._leave()
        if turn is not None and permit is not None:
            self._gate.note_success(turn, permit, cost)

    def fail(self, failure: RequestFailure) -> None:
        turn, permit = self._leave()
        if turn is not None and permit is not None:
            self._gate.note_failure(permit, failure)

    def _drop(self) -> None:
        _, permit = self._leave()
        if permit is not None:
            self._gate.breaker.dropped(permit)

    def _leave(self) -> tuple[Turn | None, Permit | None]:
        turn, permit = self._turn, self._permit
        self._turn = self._permit = None
        if turn is not None:
            turn.release()
            self._gate.inside -= 1
        return turn, permit


class Gate:
    """Used on the event loop only."""

    def __init__(
        self,
        turns: Turns,
        breaker: Breaker,
        *,
        queue_timeout_seconds: float,
        telemetry: ModelTelemetry,
        clock: Clock,
    ) -> None:
        self.turns = turns
        self.breaker = breaker
        self.latency = LatencyModel()
        self.inside = 0
        self._queue_timeout = queue_timeout_seconds
        self._telemetry = telemetry
        self._clock = clock
        self._closed_because = ""
        self._accounts = Accounts()
        self._waiting: Counter[Priority] = Counter()
        self._promises: list[float] = []
        telemetry.watch_circuits(self.circuit_levels)

    @property
    def waiting(self) -> int:
        return self._waiting.total()

    def enter(
        self,
        ticket: Ticket,
        *,
        cost: float,
        units: int = 1,
        concerned: frozenset[FailureClass] = PLAIN,
    ) -> Visit:
        """`cost` is the work that is expected, in the unit in which `Visit.succeed` tells it.

        `units` are the places that the request would like to have at once.
        """
        return Visit(
            self, ticket, cost=cost, units=min(units, self.turns.places), concerned=concerned
        )

    def close(self, reason: str) -> None:
        """Refuses everything from now on, also who waits."""
        self._closed_because = reason
        self.turns.refuse(self, self._closed)

    def permit(self, visit: Visit) -> Permit:
        if self._closed_because:
            raise self._refused(visit, Refusal.CLOSED, self._closed())
        try:
            return self.breaker.admit(visit.concerned, self._clock())
        except CircuitIsOpen as circuit:
            raise self._refused(visit, Refusal.CIRCUIT_OPEN, _circuit_open(circuit)) from circuit

    async def turn_of(self, visit: Visit) -> Turn:
        entry = self._entry(visit)
        visit.ticket.timing.note_queued(entry.arrived)
        self._require_reach(visit, entry)
        try:
            waiter = self.turns.ask(entry, self)
            turn = waiter.turn or await self._waited(waiter, visit)
        except NoTurn as error:
            raise self._without_turn(visit, entry, error.obstacle) from error
        self.inside += 1
        self._accounts.of(entry.priority, entry.tenant).admitted += 1
        visit.ticket.timing.note_admitted(turn.began)
        self._telemetry.observe_wait(entry.priority.name, turn.began - entry.arrived)
        return turn

    def _entry(self, visit: Visit) -> Entry:
        now, ticket = self._clock(), visit.ticket
        return Entry(
            priority=ticket.priority,
            tenant=ticket.tenant,
            cost=self.latency.predict(visit.cost / visit.units) * visit.units,
            arrived=now,
            expires=min(now + self._queue_timeout, ticket.deadline),
            units=visit.units,
        )

    async def _waited(self, waiter: Waiter, visit: Visit) -> Turn:
        priority = visit.ticket.priority
        self._note_waiting(priority, 1)
        try:
            return await self.turns.turn_of(waiter)
        finally:
            self._note_waiting(priority, -1)

    def _note_waiting(self, priority: Priority, change: int) -> None:
        self._waiting[priority] += change
        self._telemetry.note_queue(priority.name, self._waiting[priority])

    def _require_reach(self, visit: Visit, entry: Entry) -> None:
        wait = self.turns.wait_seconds(entry)
        if not wait or not self.latency.is_trained:
            return
        needed = wait + entry.cost / entry.units
        left = visit.ticket.deadline - entry.arrived
        if needed > left:
            failure = DeadlineUnreachable(
                f"The answer would take about {needed:.1f} s, {wait:.1f} s of it waiting, and "
                f"there are {left:.1f} s left for it; try again later",
                retry_after_seconds=_bounded(min(needed - left, wait)),
            )
            raise self._refused(visit, Refusal.DEADLINE, failure)

    def _without_turn(self, visit: Visit, entry: Entry, obstacle: Obstacle) -> RequestFailure:
        if obstacle is Obstacle.EXPIRED:
            self._account(visit).timed_out += 1
            return self._counted(Refusal.QUEUE_TIMEOUT, self._timed_out(entry))
        sentence = (
            f"{self.turns.waiting} requests wait already, and no more may wait; try again later"
            if obstacle is Obstacle.FULL
            else "The request gave its place in the queue to a more urgent one; try again later"
        )
        failure = Overloaded(sentence, retry_after_seconds=self._promise(entry))
        return self._refused(visit, Refusal(obstacle.value), failure)

    def _timed_out(self, entry: Entry) -> RequestFailure:
        return QueueTimeout(
            f"The request waited {self._clock() - entry.arrived:.1f} s for its turn, longer than "
            "it may; try again later",
            retry_after_seconds=_bounded(self.turns.wait_seconds(entry)),
        )

    def _promise(self, entry: Entry) -> float:
        """When a place in the queue will be free: each refused client is told of another one.

        Places become free one after the other, as turns end. Told the same time, all that were
        refused would come back together and be refused again.
        """
        now = self._clock()
        self._promises = [at for at in self._promises if at > now]
        interval = entry.cost / self.turns.places
        seconds = self.turns.seconds_until_turn() + interval * len(self._promises)
        seconds = _bounded(seconds)
        self._promises.append(now + seconds)
        return seconds

    def _refused(self, visit: Visit, reason: Refusal, failure: RequestFailure) -> RequestFailure:
        self._account(visit).refused += 1
        return self._counted(reason, failure)

    def _counted(self, reason: Refusal, failure: RequestFailure) -> RequestFailure:
        self._telemetry.count_refusal(reason.value)
        return failure

    def _account(self, visit: Visit) -> Account:
        return self._accounts.of(visit.ticket.priority, visit.ticket.tenant)

    def _closed(self) -> NotReady:
        return NotReady(self._closed_because, retry_after_seconds=_RETRY_WHEN_CLOSED_SECONDS)

    def note_success(self, turn: Turn, permit: Permit, cost: float) -> None:
        units = turn.entry.units
        self.latency.observe(cost / units, turn.used(self._clock()) / units)
        self.breaker.succeeded(permit)

    def note_failure(self, permit: Permit, failure: RequestFailure) -> None:
        """Only what is the model's fault counts; the rest is as if it had not been."""
        if not isinstance(failure, BackendFailure) or failure.is_of_input:
            self.breaker.dropped(permit)
        elif self.breaker.failed(permit, failure.failure_class, self._clock()):
            self._send_away(failure.failure_class)

    def trip(self, failure_class: FailureClass) -> None:
        """Opens a circuit at once, when it is known that the model cannot answer."""
        self.breaker.trip(failure_class, self._clock())
        self._send_away(failure_class)

    def heal(self, failure_class: FailureClass) -> None:
        self.breaker.heal(failure_class)

    def _send_away(self, failure_class: FailureClass) -> None:
        """Who waits would be answered when it is too late, or not at all.

        All of them, also those whom an open circuit for grammars does not concern, except then.
        """
        self._telemetry.count_opening(failure_class.value)
        if failure_class is FailureClass.GRAMMAR:
            return
        now = self._clock()
        seconds = self.breaker.seconds_until_probe(failure_class, now)
        circuit = CircuitIsOpen(failure_class, seconds)
        self.turns.refuse(self, lambda: _circuit_open(circuit))

    def circuits(self) -> dict[FailureClass, CircuitState]:
        return self.breaker.states(self._clock())

    def circuit_levels(self) -> dict[str, int]:
        """0 closed, 1 half open, 2 open."""
        return {str(each): _LEVELS[state] for each, state in self.circuits().items()}

    def statistics(self) -> QueueStatistics:
        waiters = [waiter for waiter in self.turns.waiters() if waiter.owner is self]
        return QueueStatistics(
            places=self.turns.places,
            running=self.inside,
            typical_seconds=self.latency.typical_seconds,
            priorities=tuple(
                priority_statistics(
                    priority,
                    [each.entry for each in waiters if each.entry.priority is priority],
                    self._accounts,
                    predicted_wait_seconds=self._wait_of_stranger(priority),
                    now=self._clock(),
                )
                for priority in reversed(Priority)
            ),
        )

    def _wait_of_stranger(self, priority: Priority) -> float:
        now = self._clock()
        return self.turns.wait_seconds(
            Entry(
                priority=priority,
                tenant=_STRANGER,
                cost=self.latency.typical_seconds,
                arrived=now,
                expires=now,
            )
        )


def _bounded(seconds: float) -> float:
    return min(max(seconds, _SHORTEST_RETRY_SECONDS), _LONGEST_RETRY_SECONDS)


def _circuit_open(circuit: CircuitIsOpen) -> CircuitOpen:
    return CircuitOpen(
        f"The model fails again and again ({_WORDS[circuit.failure_class]}) and is left alone for "
        f"{circuit.retry_after_seconds:.0f} s; try again then",
        retry_after_seconds=circuit.retry_after_seconds,
    )
