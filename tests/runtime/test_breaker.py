"""The circuit breaker: closed, open, half open; and the line that predicts service times."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from modelserver_runtime.engine.breaker import (
    Breaker,
    BreakerLimits,
    CircuitIsOpen,
    CircuitState,
    Permit,
)
from modelserver_runtime.engine.gate import CONSTRAINED, PLAIN
from modelserver_runtime.engine.latency import LatencyModel
from modelserver_runtime.errors import FailureClass

LIMITS = BreakerLimits(failures=3, open_seconds=60, probes=2)
MEMORY, GRAMMAR = FailureClass.OUT_OF_MEMORY, FailureClass.GRAMMAR


def failing(breaker: Breaker, times: int, failure: FailureClass = MEMORY, now: float = 0) -> None:
    for _ in range(times):
        breaker.failed(breaker.admit(CONSTRAINED, now), failure, now)


def state(breaker: Breaker, now: float, failure: FailureClass = MEMORY) -> CircuitState:
    return breaker.states(now)[failure]


def test_so_many_failures_in_a_row_open_it_and_the_pause_is_told():
    breaker = Breaker(LIMITS)
    failing(breaker, 2)
    assert state(breaker, 0) is CircuitState.CLOSED
    failing(breaker, 1)
    assert state(breaker, 59) is CircuitState.OPEN
    with pytest.raises(CircuitIsOpen) as refused:
        breaker.admit(PLAIN, 20)
    assert refused.value.failure_class is MEMORY
    assert refused.value.retry_after_seconds == 40


def test_a_success_between_failures_keeps_it_closed():
    breaker = Breaker(LIMITS)
    for _ in range(10):
        failing(breaker, 2)
        breaker.succeeded(breaker.admit(PLAIN, 0))
    assert state(breaker, 0) is CircuitState.CLOSED


def test_failures_of_different_kinds_do_not_add_up():
    breaker = Breaker(LIMITS)
    for failure in FailureClass:
        failing(breaker, 2, failure)
    assert set(breaker.states(0).values()) == {CircuitState.CLOSED}


def test_an_open_circuit_for_grammars_lets_others_pass_and_they_do_not_close_it():
    breaker = Breaker(LIMITS)
    failing(breaker, 3, GRAMMAR)
    breaker.succeeded(breaker.admit(PLAIN, 1))
    breaker.succeeded(breaker.admit(PLAIN, 70))
    with pytest.raises(CircuitIsOpen):
        breaker.admit(CONSTRAINED, 59)
    assert state(breaker, 70, GRAMMAR) is CircuitState.HALF_OPEN


def test_half_open_lets_only_probes_pass_and_one_success_closes_it():
    breaker = Breaker(LIMITS)
    failing(breaker, 3)
    first = breaker.admit(PLAIN, 60)
    breaker.admit(PLAIN, 60)
    with pytest.raises(CircuitIsOpen):
        breaker.admit(PLAIN, 60)
    breaker.succeeded(first)
    assert state(breaker, 60) is CircuitState.CLOSED
    breaker.admit(PLAIN, 60)


def test_a_failed_probe_opens_it_again_for_the_whole_pause():
    breaker = Breaker(LIMITS)
    failing(breaker, 3)
    assert breaker.failed(breaker.admit(PLAIN, 60), MEMORY, 61)
    assert state(breaker, 120) is CircuitState.OPEN
    assert state(breaker, 121) is CircuitState.HALF_OPEN


def test_a_probe_that_was_cancelled_makes_room_for_another():
    breaker = Breaker(LIMITS)
    failing(breaker, 3)
    for _ in range(20):
        breaker.dropped(breaker.admit(PLAIN, 60))
    assert state(breaker, 60) is CircuitState.HALF_OPEN


def test_results_from_before_it_opened_change_nothing():
    breaker = Breaker(LIMITS)
    old = [breaker.admit(PLAIN, 0) for _ in range(4)]
    failing(breaker, 3)
    breaker.succeeded(old[0])
    breaker.failed(old[1], MEMORY, 30)
    assert state(breaker, 59) is CircuitState.OPEN
    assert state(breaker, 60) is CircuitState.HALF_OPEN
    breaker.dropped(old[2])
    breaker.admit(PLAIN, 60)
    breaker.admit(PLAIN, 60)
    with pytest.raises(CircuitIsOpen):
        breaker.admit(PLAIN, 60)


def test_it_can_be_opened_and_closed_from_outside():
    breaker = Breaker(LIMITS)
    breaker.admit(PLAIN, 0)
    breaker.trip(MEMORY, 0)
    with pytest.raises(CircuitIsOpen):
        breaker.admit(PLAIN, 1)
    breaker.heal(MEMORY)
    breaker.admit(PLAIN, 1)


class BreakerMachine(RuleBasedStateMachine):
    """Against a simple account of what may be: when it opened, and how many probes are out."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(LIMITS)
        self.now = 0.0
        self.permits: list[Permit] = []
        self.opened_at: float | None = None
        self.in_a_row = 0
        self.epoch = 0
        self.of_epoch: dict[int, int] = {}

    def current(self, permit: Permit) -> bool:
        return self.of_epoch.pop(id(permit)) == self.epoch

    @property
    def probes(self) -> int:
        return sum(epoch == self.epoch for epoch in self.of_epoch.values())

    @rule()
    def admit(self) -> None:
        is_open = self.opened_at is not None and self.now < self.opened_at + 60
        is_half_open = self.opened_at is not None and not is_open
        try:
            # Its own object each time, so that it can be told from others.
            permit = self.breaker.admit(frozenset({MEMORY}), self.now)
            permit = Permit(epochs=permit.epochs, probes=permit.probes)
        except CircuitIsOpen:
            assert is_open or (is_half_open and self.probes >= LIMITS.probes)
            return
        assert not is_open
        assert not (is_half_open and self.probes >= LIMITS.probes)
        self.permits.append(permit)
        self.of_epoch[id(permit)] = self.epoch

    @precondition(lambda self: self.permits)
    @rule(index=st.integers(0, 20))
    def succeed(self, index: int) -> None:
        permit = self.permits.pop(index % len(self.permits))
        self.breaker.succeeded(permit)
        if self.current(permit):
            self.in_a_row = 0
            if self.opened_at is not None:
                self.opened_at = None
                self.epoch += 1

    @precondition(lambda self: self.permits)
    @rule(index=st.integers(0, 20))
    def fail(self, index: int) -> None:
        permit = self.permits.pop(index % len(self.permits))
        self.breaker.failed(permit, MEMORY, self.now)
        if self.current(permit):
            self.in_a_row += 1
            if self.opened_at is not None or self.in_a_row >= LIMITS.failures:
                self.opened_at, self.in_a_row = self.now, 0
                self.epoch += 1

    @precondition(lambda self: self.permits)
    @rule(index=st.integers(0, 20))
    def drop(self, index: int) -> None:
        permit = self.permits.pop(index % len(self.permits))
        self.breaker.dropped(permit)
        self.current(permit)

    @rule(seconds=st.floats(1, 45))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def states_agree(self) -> None:
        expected = CircuitState.CLOSED
        if self.opened_at is not None:
            is_open = self.now < self.opened_at + 60
            expected = CircuitState.OPEN if is_open else CircuitState.HALF_OPEN
        assert state(self.breaker, self.now) is expected


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)


measurements = st.lists(
    st.tuples(st.floats(1, 1000), st.floats(0.01, 100)), min_size=1, max_size=60
)


@given(measurements, st.floats(0, 1000), st.floats(0, 1000))
def test_a_prediction_is_never_negative_and_more_work_never_takes_less(measured, small, more):
    model = LatencyModel()
    for cost, seconds in measured:
        model.observe(cost, seconds)
    assert 0 <= model.predict(small) <= model.predict(small + more)


@given(st.floats(0.001, 1), st.floats(0, 5), st.lists(st.floats(1, 500), min_size=10, max_size=40))
def test_a_line_is_learned_and_a_new_one_after_it(slope, intercept, costs):
    assume(max(costs) - min(costs) > 10)
    model = LatencyModel()
    for cost in costs:
        model.observe(cost, slope * cost + intercept)
    assert model.is_trained
    assert model.predict(250) == pytest.approx(slope * 250 + intercept, rel=1e-3)
    for cost in costs * (400 // len(costs)):
        model.observe(cost, 10 * (slope * cost + intercept))
    assert model.predict(250) == pytest.approx(10 * (slope * 250 + intercept), rel=0.02)


def test_requests_that_are_all_alike_are_taken_for_proportional():
    model = LatencyModel()
    assert not model.is_trained
    for _ in range(10):
        model.observe(100, 2)
    assert model.predict(100) == pytest.approx(2)
    assert model.predict(50) == pytest.approx(1)
    assert model.typical_seconds == pytest.approx(2)
