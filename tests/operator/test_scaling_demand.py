"""How many pods the metrics ask for, and how slowly fewer are believed."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_operator.apis.autoscaling import MetricName
from modelserver_operator.scaling import window
from modelserver_operator.scaling.demand import demand_of, pods_for
from modelserver_operator.scaling.history import growth_limit, remembered
from modelserver_operator.scaling.samples import PodReading, Requests, Samples, values_of
from support.autoscalers import an_autoscaling

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
FLIGHT, CPU = MetricName.IN_FLIGHT, MetricName.CPU

# By hand from the algorithm that the HPA's documentation describes: values, missing, now → then.
PODS = {
    "as much as there shall be": ([8, 8], 0, 2, 2),
    "within a tenth above": ([8.8, 8.7], 0, 2, 2),
    "within a tenth below": ([7.3, 7.2], 0, 2, 2),
    "more": ([16, 12], 0, 2, 4),
    "a little more is one pod": ([9, 9], 0, 2, 3),
    "less": ([2, 2, 2, 2], 0, 4, 1),
    "nothing at all": ([0, 0], 0, 2, 0),
    "silent pods are full where fewer would do": ([1, 1], 2, 4, 3),
    "silent pods are idle where more are needed": ([30, 10], 2, 4, 5),
    "silent pods turn more into less: nothing changes": ([9.5], 3, 4, 4),
    "nobody answers": ([], 3, 3, None),
}


@pytest.mark.parametrize("case", PODS)
def test_pods(case):
    values, missing, current, wanted = PODS[case]
    assert pods_for(values, missing, 8.0, current=current) == wanted


@given(
    values=st.lists(st.floats(0, 100), min_size=1, max_size=8),
    missing=st.integers(0, 4),
    more=st.floats(0, 50),
)
def test_more_demand_never_asks_for_fewer_pods(values, missing, more):
    current = len(values) + missing
    before = pods_for(values, missing, 8.0, current=current)
    after = pods_for([values[0] + more, *values[1:]], missing, 8.0, current=current)
    tolerated = range(current - 1, current + 2)
    assert after >= before or (before in tolerated and after in tolerated)


def demand(samples, current=2, **scaling):
    return demand_of(an_autoscaling(**scaling), samples, current=current)


TWO = [{"name": "inflight", "target": 8}, {"name": "cpu", "target": 50}]


def test_the_metric_that_asks_for_most_decides_and_says_its_numbers():
    samples = Samples(pods=[{FLIGHT: 2.0, CPU: 100.0}, {FLIGHT: 2.0, CPU: 90.0}])
    found = demand(samples, metrics=TWO)
    assert (found.replicas, found.reason) == (4, "cpu 190/50")


def test_what_nobody_can_tell_lets_nothing_shrink_and_something_grow():
    idle = Samples(pods=[{FLIGHT: 0.0}, {FLIGHT: 0.0}])
    busy = Samples(pods=[{FLIGHT: 40.0}, {FLIGHT: 0.0}])
    assert demand(idle, metrics=TWO).replicas == 2
    assert demand(idle, metrics=TWO).unknown == ("cpu",)
    assert demand(busy, metrics=TWO).replicas == 5
    assert demand(Samples(pods=[{}, {}]), metrics=TWO).replicas is None


@pytest.mark.parametrize(
    ("answer", "wanted"), [(50.0, 20), (5.0, 2), (5.2, 2), (None, None), (float("nan"), None)]
)
def test_a_query_is_what_all_pods_have_together(answer, wanted):
    queries = {} if answer is None else {"q": answer}
    samples = Samples(pods=[{}, {}], queries=queries)
    given_query = {"name": "q", "query": "up", "target": "2.5"}
    assert demand(samples, queries=[given_query]).replicas == wanted


def test_no_metric_means_requests_in_flight():
    found = demand(Samples(pods=[{FLIGHT: 40.0}]), current=1)
    assert (found.replicas, found.reason) == (5, "inflight 40/8")


def a_reading(pod="p", seconds=0, **counts):
    return PodReading(pod=pod, at=NOW + timedelta(seconds=seconds), **counts)


def test_counters_become_rates_and_amounts_become_percents():
    before = a_reading(tokens=100.0, cpu_seconds=10.0)
    now = a_reading(
        seconds=10, tokens=400.0, cpu_seconds=25.0, memory_bytes=3e9, gpu_share=0.5, in_flight=4.0
    )
    assert values_of(now, before, Requests(cpu_cores=2.0, memory_bytes=4e9)) == {
        MetricName.IN_FLIGHT: 4.0,
        MetricName.TOKENS_PER_SECOND: 30.0,
        MetricName.CPU: 75.0,
        MetricName.MEMORY: 75.0,
        MetricName.GPU: 50.0,
    }


@pytest.mark.parametrize(
    "before",
    [
        None,
        a_reading(pod="another", tokens=1.0),
        a_reading(tokens=900.0),
        a_reading(seconds=10, tokens=1.0),
    ],
    ids=["first look", "another pod", "began anew", "no time between"],
)
def test_a_rate_that_cannot_be_told_is_left_out(before):
    now = a_reading(seconds=10, tokens=400.0, cpu_seconds=5.0)
    assert values_of(now, before, Requests(cpu_cores=1.0)) == {}


# -- fewer pods only after the delay ---------------------------------------------------------------

WISHES = st.lists(st.tuples(st.integers(0, 90), st.integers(0, 20)), min_size=1, max_size=60)


@given(wishes=WISHES, delay=st.sampled_from([0, 1, 5, 60, 300, 3600]))
def test_what_was_asked_for_within_the_delay_is_never_forgotten_and_soon_after_it_is(wishes, delay):
    """The window is text in a status: each look begins with what the last one wrote."""
    kept, now, past = (), NOW, []
    for seconds, wish in wishes:
        now += timedelta(seconds=seconds)
        past.append((now, wish))
        kept = window.noted(kept, wish, now=now, delay_seconds=delay)
        assert len(kept) <= 8
        slack = 2 * window.part_seconds(delay)
        within = [pods for at, pods in past if (now - at).total_seconds() < delay or at == now]
        at_most = [pods for at, pods in past if (now - at).total_seconds() <= delay + slack]
        assert max(within) <= window.largest(kept) <= max(at_most)


def test_a_clock_that_is_set_back_keeps_no_wish_for_longer_than_the_delay():
    kept = window.noted((), 9, now=NOW + timedelta(hours=2), delay_seconds=60)
    kept = window.noted(kept, 1, now=NOW, delay_seconds=60)
    assert window.largest(kept) == 9
    kept = window.noted(kept, 1, now=NOW + timedelta(seconds=90), delay_seconds=60)
    assert window.largest(kept) == 1


def test_growth_is_limited_by_what_there_was_fifteen_seconds_ago():
    assert growth_limit((), 10, NOW) == 20
    assert growth_limit((), 1, NOW) == 5
    grown = remembered((), 10, 20, reason="x", now=NOW)
    assert growth_limit(grown, 20, NOW + timedelta(seconds=5)) == 20
    assert growth_limit(grown, 20, NOW + timedelta(seconds=15)) == 40


def test_ten_changes_are_remembered_and_no_change_is_none():
    history = ()
    for replicas in range(12):
        history = remembered(history, replicas, replicas + 1, reason="r" * 99, now=NOW)
    assert [one.to for one in history] == list(range(3, 13))
    assert remembered(history, 4, 4, reason="x", now=NOW) is history
