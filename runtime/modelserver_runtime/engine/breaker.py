"""Stops sending requests to a model that fails, one circuit for each way of failing.

    Closed ──(failures in a row)──▶ Open ──(pause)──▶ HalfOpen ──(a probe succeeds)──▶ Closed
                                     ▲───(a probe fails)───┘

What is the client's fault, what was cancelled and what came too late counts neither way.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from modelserver_runtime.errors import FailureClass


class CircuitState(StrEnum):
    CLOSED = "Closed"
    OPEN = "Open"
    HALF_OPEN = "HalfOpen"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerLimits:
    """`failures` in a row open a circuit for `open_seconds`; then `probes` at a time may try."""

    failures: int
    open_seconds: float
    probes: int


class CircuitIsOpen(Exception):
    """The request was not let through; raised again as an answer by the gate."""

    def __init__(self, failure_class: FailureClass, retry_after_seconds: float) -> None:
        super().__init__(failure_class)
        self.failure_class = failure_class
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """One request's way through its circuits; `epochs` tell results of earlier times apart."""

    epochs: Mapping[FailureClass, int]
    probes: frozenset[FailureClass] = frozenset()


class _Circuit:
    def __init__(self, limits: BreakerLimits) -> None:
        self._limits = limits
        self._failures = 0
        self._opened_at: float | None = None
        self._probing = 0
        self.epoch = 0

    def state(self, now: float) -> CircuitState:
        if self._opened_at is None:
            return CircuitState.CLOSED
        is_over = now >= self._opened_at + self._limits.open_seconds
        return CircuitState.HALF_OPEN if is_over else CircuitState.OPEN

    def seconds_until_probe(self, now: float) -> float:
        """0 when a request may pass now.

        How long probes take is not known: a tenth of the pause keeps clients from asking all the
        time.
        """
        if self._opened_at is None:
            return 0.0
        left = self._opened_at + self._limits.open_seconds - now
        if left > 0:
            return left
        is_free = self._probing < self._limits.probes
        return 0.0 if is_free else self._limits.open_seconds / 10

    def begin_probe(self) -> None:
        self._probing += 1

    def end_probe(self) -> None:
        self._probing -= 1

    def succeed(self) -> None:
        self._failures = 0
        if self._opened_at is not None:
            self._opened_at = None
            self._next_epoch()

    def fail(self, now: float, *, at_once: bool = False) -> bool:
        """Whether it opened because of that."""
        self._failures += 1
        is_probe = self._opened_at is not None
        if not (is_probe or at_once or self._failures >= self._limits.failures):
            return False
        self._opened_at = now
        self._next_epoch()
        return True

    def _next_epoch(self) -> None:
        self.epoch += 1
        self._failures = 0
        self._probing = 0


class Breaker:
    """Knows no clock: `now` is a reading of one, in seconds."""

    def __init__(self, limits: BreakerLimits) -> None:
        self._circuits = {each: _Circuit(limits) for each in FailureClass}
        # What nearly every request gets, by the circuits that concern it.
        self._healthy: dict[frozenset[FailureClass], Permit] = {}

    def seconds_until_probe(self, failure_class: FailureClass, now: float) -> float:
        return self._circuits[failure_class].seconds_until_probe(now)

    def states(self, now: float) -> dict[FailureClass, CircuitState]:
        return {each: circuit.state(now) for each, circuit in self._circuits.items()}

    def admit(self, concerned: frozenset[FailureClass], now: float) -> Permit:
        """Raises CircuitIsOpen if a circuit that concerns the request lets nobody pass."""
        permit = self._healthy.get(concerned)
        return permit or self._examined(concerned, now)

    def _examined(self, concerned: frozenset[FailureClass], now: float) -> Permit:
        circuits = {each: self._circuits[each] for each in concerned}
        waits = {each: circuit.seconds_until_probe(now) for each, circuit in circuits.items()}
        longest = max(waits, key=waits.__getitem__)
        if waits[longest] > 0:
            raise CircuitIsOpen(longest, waits[longest])
        probes = {
            each
            for each, circuit in circuits.items()
            if circuit.state(now) is CircuitState.HALF_OPEN
        }
        for each in probes:
            circuits[each].begin_probe()
        epochs = {each: circuit.epoch for each, circuit in circuits.items()}
        permit = Permit(epochs=epochs, probes=frozenset(probes))
        if not probes:
            self._healthy[concerned] = permit
        return permit

    def succeeded(self, permit: Permit) -> None:
        for each in self._current(permit):
            if each in permit.probes:
                self._circuits[each].end_probe()
                self._healthy.clear()
            self._circuits[each].succeed()

    def failed(self, permit: Permit, failure_class: FailureClass, now: float) -> bool:
        """Whether a circuit opened."""
        current = self._current(permit)
        for each in current:
            if each in permit.probes:
                self._circuits[each].end_probe()
        if failure_class not in current:
            return False
        has_opened = self._circuits[failure_class].fail(now)
        if has_opened:
            self._healthy.clear()
        return has_opened

    def dropped(self, permit: Permit) -> None:
        """The request ended without telling anything about the model."""
        for each in self._current(permit) & permit.probes:
            self._circuits[each].end_probe()

    def trip(self, failure_class: FailureClass, now: float) -> None:
        """Opens a circuit from outside, when it is known that the model cannot answer."""
        self._circuits[failure_class].fail(now, at_once=True)
        self._healthy.clear()

    def heal(self, failure_class: FailureClass) -> None:
        """Closes a circuit from outside, when it is known that the model can answer again."""
        self._circuits[failure_class].succeed()

    def _current(self, permit: Permit) -> set[FailureClass]:
        """The circuits in which nothing has changed since the request was let through."""
        return {
            each for each, epoch in permit.epochs.items() if self._circuits[each].epoch == epoch
        }
