"""Batches: when they begin, who is in them, what equal inputs cost, and how a bad one is found."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_runtime.backends.base import TaskItem
from modelserver_runtime.engine.batch_composition import BatchLimits, compose, padded
from modelserver_runtime.engine.batch_steps import BatchEntry, BatchRules, BatchSteps, Work
from modelserver_runtime.engine.batch_window import ArrivalWindow
from modelserver_runtime.engine.items import TASKS
from modelserver_runtime.engine.latency import LatencyModel
from modelserver_runtime.engine.request import Ticket
from modelserver_runtime.errors import BackendFailure, FailureClass, InvalidRequest
from modelserver_runtime.telemetry import Telemetry

FAR = 1e9


def a_window(*gaps: float) -> ArrivalWindow:
    """After arrivals with these gaps between them; the last one came at 0."""
    window = ArrivalWindow(0.1)
    for at in (-sum(gaps[index:]) for index in range(len(gaps) + 1)):
        window.note_arrival(at)
    return window


def patience(window: ArrivalWindow, now: float = 0, waiting: int = 1, seconds: float = 0.02) -> Any:
    return window.patience(now=now, waiting=waiting, oldest=0, batch_seconds=seconds)


def test_nobody_waits_when_requests_are_rare():
    assert patience(a_window(*[1.0] * 20)) == 0


def test_nobody_waits_before_anything_is_known():
    assert patience(a_window(*[0.001] * 5)) == 0


def test_a_burst_is_waited_for_as_long_as_it_goes_on():
    """Eight requests come together, every second or so."""
    window = a_window(*([1.0] + [0.001] * 7) * 5)
    assert patience(window) == pytest.approx(0.001)
    assert patience(window, waiting=8) == pytest.approx(0.001)
    assert patience(window, now=0.0015) == 0


def test_many_do_not_wait_long_for_one():
    window = a_window(*[0.004] * 20)
    assert patience(window, waiting=1) == pytest.approx(0.004)
    assert patience(window, waiting=20) == 0


def test_nobody_waits_when_a_batch_takes_no_time():
    assert patience(a_window(*[0.004] * 20), seconds=0.005) == 0


@given(
    st.lists(st.floats(0, 2), min_size=1, max_size=80),
    st.floats(0, 0.2),
    st.integers(1, 32),
    st.floats(0, 3),
)
def test_a_window_is_never_longer_than_it_may_be_and_always_ends(gaps, elapsed, waiting, seconds):
    window, now = a_window(*gaps), elapsed
    for _ in range(100):
        wait = patience(window, now, waiting, seconds)
        assert wait >= 0
        assert now + wait <= max(0.1, elapsed) + 1e-9
        if not wait:
            return
        now += wait
    raise AssertionError("it waits for ever")


def a_latency(slope: float, intercept: float) -> LatencyModel:
    model = LatencyModel()
    for cost in (10, 20, 40, 80, 160, 320, 30, 60, 90):
        model.observe(cost, slope * cost + intercept)
    return model


WIDE = BatchLimits(max_items=8, max_cost=10_000)


@pytest.mark.parametrize(
    ("costs", "limits", "latency", "chosen"),
    [
        ((5, 5, 5), WIDE, LatencyModel(), [0, 1, 2]),
        ((5,) * 12, WIDE, LatencyModel(), list(range(8))),
        ((5, 5, 5), BatchLimits(max_items=8, max_cost=10), LatencyModel(), [0, 1]),
        ((500,), BatchLimits(max_items=8, max_cost=10), LatencyModel(), [0]),
        # Where a batch costs nothing by itself, padding is never worth it.
        ((10, 200, 11, 10), WIDE, a_latency(0.001, 0.0), [0, 3]),
        # Where it costs a lot, everything goes together.
        ((10, 200, 11, 10), WIDE, a_latency(0.001, 5.0), [0, 1, 2, 3]),
        # Without padding, lengths do not matter.
        ((10, 200, 11, 10), replace(WIDE, pads=False), a_latency(0.001, 0.0), [0, 1, 2, 3]),
        # In between, those of similar length do.
        ((10, 200, 11, 10), WIDE, a_latency(0.001, 0.02), [0, 2, 3]),
    ],
)
def test_a_batch_holds_what_is_cheaper_together(costs, limits, latency, chosen):
    assert compose(costs, limits, latency) == chosen


@given(
    st.lists(st.integers(1, 600), min_size=1, max_size=60),
    st.integers(1, 32),
    st.integers(1, 4000),
    st.floats(0, 0.1),
)
def test_a_batch_always_holds_the_oldest_and_never_too_much(costs, items, cost, overhead):
    limits = BatchLimits(max_items=items, max_cost=cost)
    chosen = compose(costs, limits, a_latency(0.001, overhead))
    assert chosen == sorted(set(chosen))
    assert chosen[0] == 0
    assert len(chosen) <= items
    assert len(chosen) == 1 or padded([costs[index] for index in chosen]) <= cost


@given(
    st.lists(st.integers(1, 600), min_size=1, max_size=60), st.integers(1, 32), st.integers(1, 4000)
)
def test_without_padding_a_batch_is_the_oldest_as_far_as_they_fit(costs, items, cost):
    limits = BatchLimits(max_items=items, max_cost=cost, pads=False)
    chosen = compose(costs, limits, LatencyModel())
    assert chosen == list(range(len(chosen)))
    assert len(chosen) == 1 or limits.cost(costs[: len(chosen)]) <= cost
    if len(chosen) < min(items, len(costs)):
        assert sum(costs[: len(chosen) + 1]) > cost, "one more would have fitted"


class Model:
    """Doubles numbers; refuses -1, breaks at -2, has no memory for -3. Notes what it computed."""

    def __init__(self) -> None:
        self.runs: list[list[int]] = []

    def run(self, items: Sequence[int]) -> Sequence[int]:
        self.runs.append(list(items))
        if -1 in items:
            raise InvalidRequest("wrong")
        if -2 in items:
            raise RuntimeError("poison")
        if -3 in items:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return [item * 2 for item in items]


def steps_of(model: Model, *, items: int = 32) -> BatchSteps[int, Work]:
    rules = BatchRules(limits=BatchLimits(max_items=items, max_cost=100_000), max_wait_seconds=0.01)
    return BatchSteps(model.run, rules, Telemetry().of("test", "test"), time.monotonic)


def send(steps: BatchSteps[int, Work], *items: int, deadline: float = FAR) -> Work:
    work = Work(ticket=Ticket(arrived=0, deadline=deadline))
    for index, item in enumerate(items):
        steps.accept(
            BatchEntry(item=item, key=item, cost=abs(item) + 1, work=work, index=index, sent=0)
        )
    return work


def answers_of(steps: BatchSteps[int, Work]) -> list[tuple[int, Any]]:
    outcomes = []
    while steps.has_work:
        outcomes.extend(steps.step(1))
    return [(outcome.entry.item, outcome.failure or outcome.value) for outcome in outcomes]


def test_equal_inputs_are_computed_once_and_everybody_is_answered():
    model = Model()
    steps = steps_of(model)
    send(steps, 1, 2, 1)
    send(steps, 2, 3)
    assert sorted(answers_of(steps)) == [(1, 2), (1, 2), (2, 4), (2, 4), (3, 6)]
    assert model.runs == [[1, 2, 3]]
    assert steps._telemetry.duplicates._value.get() == 2


def test_padding_is_counted():
    steps = steps_of(Model())
    send(steps, 9, 4)
    answers_of(steps)
    assert steps._telemetry.batch_cost._value.get() == 20
    assert steps._telemetry.batch_padding._value.get() == 5


def test_late_inputs_are_told_so_and_those_whose_client_has_gone_vanish():
    model = Model()
    steps = steps_of(model)
    send(steps, 1, deadline=0.5)
    send(steps, 2).is_over = True
    send(steps, 3)
    answers = dict(answers_of(steps))
    assert model.runs == [[3]]
    assert set(answers) == {1, 3}
    assert "waited" in answers[1].message


@given(st.lists(st.integers(0, 500), min_size=1, max_size=32, unique=True), st.data())
def test_one_bad_input_fails_alone_and_is_found_by_halving(items, data):
    bad = data.draw(st.sampled_from([-1, -2, -3]))
    items.insert(data.draw(st.integers(0, len(items))), bad)
    model = Model()
    steps = steps_of(model, items=64)
    send(steps, *items)
    answers = dict(answers_of(steps))
    failure = answers.pop(bad)
    assert answers == {item: item * 2 for item in items if item != bad}
    assert isinstance(failure, InvalidRequest if bad == -1 else BackendFailure)
    expected = FailureClass.OUT_OF_MEMORY if bad == -3 else FailureClass.BACKEND_ERROR
    assert bad == -1 or failure.failure_class is expected
    assert len(model.runs) <= 1 + 2 * math.ceil(math.log2(len(items)))


def test_a_batch_is_held_open_when_others_are_about_to_come():
    steps = steps_of(Model())
    for _ in range(10):
        steps._latency.observe(2, 0.02)
    for at in range(20):
        steps._window.note_arrival(at * 0.001 - 0.02)
    send(steps, 1)
    assert 0 < steps.patience(0.0001) <= 0.01
    assert steps.patience(0.0111) == 0
    send(steps, *range(2, 40))
    assert steps.patience(0.0001) == 0


@pytest.mark.parametrize(
    ("one", "other", "are_equal"),
    [
        (TaskItem(inputs="a"), TaskItem(inputs="a"), True),
        (TaskItem(inputs={"text": "a"}), TaskItem(inputs={"text": "a"}), True),
        (TaskItem(inputs="1"), TaskItem(inputs=b"1"), False),
        (TaskItem(inputs=["1"]), TaskItem(inputs="['1']"), False),
        (TaskItem(inputs="a", parameters={"k": 1}), TaskItem(inputs="a"), False),
        (
            TaskItem(inputs="a", parameters={"k": 1, "l": 2}),
            TaskItem(inputs="a", parameters={"l": 2, "k": 1}),
            True,
        ),
    ],
)
def test_only_inputs_with_the_same_answer_have_the_same_key(one, other, are_equal):
    assert (TASKS.key(one) == TASKS.key(other)) is are_equal


def test_longer_texts_cost_more_and_pictures_all_the_same():
    short, long = TaskItem(inputs="a"), TaskItem(inputs={"text": "a" * 400, "more": ["b" * 400]})
    assert TASKS.cost(long) == 201 > TASKS.cost(short)
    assert TASKS.cost(TaskItem(inputs=b"x" * 9000)) == TASKS.cost(TaskItem(inputs=b""))
