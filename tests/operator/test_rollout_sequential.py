"""The test that may look at every tick, the counts it is fed with, and the bounds of rates."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelserver_operator.rollout import dispersion as dispersion_module
from modelserver_operator.rollout import growth as growth_module
from modelserver_operator.rollout import sequential
from modelserver_operator.rollout.binomial import divergence, lower_bound, upper_bound
from modelserver_operator.rollout.counts import Counts, Reading, growth_of
from modelserver_operator.rollout.dispersion import Dispersion
from modelserver_operator.rollout.growth import Growth
from modelserver_operator.rollout.sequential import (
    GRID,
    LATE,
    SequentialTest,
    Tick,
    evidence_needed,
)

START = datetime(2026, 11, 21, 10, tzinfo=UTC)
ALPHA = 0.01


def a_tick(requests=0, bad=0, baseline_requests=0, baseline_bad=0):
    return Tick(
        requests=requests,
        bad=bad,
        baseline_requests=baseline_requests,
        baseline_bad=baseline_bad,
    )


def after(*ticks, margin_percent=25, test=None):
    test = test or SequentialTest()
    for tick in ticks:
        test = test.after(tick, margin_percent=margin_percent)
    return test


HEALTHY = a_tick(600, 3, 5400, 27)
BAD = a_tick(600, 12, 5400, 10)


# The test


@pytest.mark.parametrize(
    ("bad", "evidence", "log_ratios"),
    [
        (6, 9.876, (0.7084, 1.6901, 2.7307, 3.1762, 3.3193, 2.6021, -0.0048, -5.8709, -11.533)),
        (12, 17984.3, None),
    ],
)
def test_evidence_is_that_of_the_reckoned_example(bad, evidence, log_ratios):
    test = after(a_tick(600, bad, 5400, 10))
    assert test.evidence == pytest.approx(evidence, rel=1e-4)
    assert log_ratios is None or test.log_ratios == log_ratios


def test_nothing_is_known_before_the_first_tick():
    assert SequentialTest().evidence == pytest.approx(1)
    assert not SequentialTest().rejects(0.5)


def test_what_fails_again_is_rejected_and_what_fails_once_is_not():
    once = after(BAD)
    assert once.evidence > evidence_needed(ALPHA)
    assert not once.rejects(ALPHA)
    assert not after(a_tick(600, 0, 5400, 10), test=once).rejects(ALPHA)
    assert after(a_tick(600, 4, 5400, 10), test=once).rejects(ALPHA)


def test_a_healthy_revision_gathers_evidence_for_itself():
    test = after(*[HEALTHY] * 20)
    assert test.evidence < 0.1
    assert not test.rejects(ALPHA)


def test_an_incident_of_both_revisions_is_no_evidence_against_either():
    both_fail = a_tick(600, 200, 5400, 1800)
    assert not after(HEALTHY, both_fail, both_fail, HEALTHY).rejects(ALPHA)


def test_what_turns_bad_after_days_is_found_in_few_ticks():
    test = after(*[HEALTHY] * 1000)
    ticks = 0
    while not test.rejects(ALPHA):
        test = after(a_tick(600, 30, 5400, 27), test=test)
        ticks += 1
    assert ticks <= 3
    assert test.log_evidence < 30, "or the test would not be near its decision"


def test_ticks_wait_until_both_revisions_had_requests():
    one = after(a_tick(1, 0, 10, 0))
    alone = after(a_tick(0, 0, 100, 1), a_tick(0, 0, 150, 2), test=one)
    assert alone.ticks == one.ticks
    assert alone.waiting == a_tick(0, 0, 250, 3)
    assert alone.log_ratios == one.log_ratios
    both = after(a_tick(2, 1, 0, 0), test=alone)
    assert both.waiting == Tick()
    assert both.log_ratios == after(a_tick(2, 1, 250, 3), test=one).log_ratios


def test_what_stable_did_before_the_first_request_is_another_time():
    """It was well while the new revision's pods started; then an incident hit both."""
    incident = a_tick(60, 20, 540, 180)
    prepared = after(*[a_tick(0, 0, 600, 0)] * 50)
    assert prepared.total.baseline_requests == 30_000
    hit = after(incident, incident, test=prepared)
    assert hit.total == incident + incident
    assert not hit.rejects(ALPHA)


def test_what_stable_did_before_is_the_past_of_a_revision_that_takes_over_at_once():
    prepared = after(*[a_tick(0, 0, 600, 3)] * 20)
    bad = prepared
    for _ in range(2):
        bad = bad.after_alone(a_tick(600, 60), margin_percent=25)
    assert bad.rejects(ALPHA)


def test_requests_of_the_step_begin_anew_and_evidence_does_not():
    test = after(HEALTHY, HEALTHY)
    at_next = test.at_next_step()
    assert (test.step_requests, at_next.step_requests) == (1200, 0)
    assert replace(at_next, step_requests=1200) == test


@pytest.mark.parametrize("size", [1, 10**6, 10**9])
def test_no_size_of_numbers_overflows(size):
    worst, best = a_tick(size, size, size, 0), a_tick(size, 0, size, size)
    for tick in (worst, best):
        test = after(tick, tick)
        assert math.isfinite(test.evidence)
        assert all(map(math.isfinite, test.log_ratios))
        assert math.isfinite(test.after_alone(tick, margin_percent=25).evidence)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 12),
    st.integers(1, 1000),
    st.integers(1, 1000),
    st.integers(0, 1000),
    st.floats(0.01, 1),
)
def test_no_bettor_gains_on_average_while_the_revision_is_healthy(
    bad, requests, baseline_requests, margin_percent, part
):
    """Whatever the shares, whatever the margin, at the margin and below it (`part`)."""
    healthy = 1 + margin_percent / 100
    theta = part * healthy
    chance = theta * requests / (theta * requests + baseline_requests)
    means = [0.0] * len(GRID)
    for of_new in range(bad + 1):
        tick = a_tick(requests, of_new, baseline_requests, bad - of_new)
        weight = math.comb(bad, of_new) * chance**of_new * (1 - chance) ** (bad - of_new)
        gains = sequential._comparisons(tick, healthy)
        means = [mean + weight * math.exp(gain) for mean, gain in zip(means, gains, strict=True)]
    assert max(means) <= 1 + 1e-9


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 12), st.floats(0.0001, 0.9999), st.floats(0, 1))
def test_no_bettor_gains_on_average_against_a_recorded_baseline(requests, healthy, part):
    rate = part * healthy
    means = [0.0] * len(GRID)
    for bad in range(requests + 1):
        weight = math.comb(requests, bad) * rate**bad * (1 - rate) ** (requests - bad)
        gains = sequential._likelihoods(a_tick(requests, bad), healthy)
        means = [mean + weight * math.exp(gain) for mean, gain in zip(means, gains, strict=True)]
    assert max(means) <= 1 + 1e-9


def test_no_more_wealth_is_put_in_than_is_reckoned_with():
    put_in = sum(math.exp(sequential._put_in(tick)) for tick in range(1, 10_000))
    assert LATE * 0.999 < put_in <= LATE
    assert evidence_needed(ALPHA) == pytest.approx((1 + LATE) / ALPHA)


def test_rounding_what_is_stored_changes_no_decision(monkeypatch):
    ticks = [a_tick(50 + tick % 7, tick % 3 == 0, 450, 2 + tick % 2) for tick in range(500)]
    stored = after(*ticks)
    monkeypatch.setattr(sequential, "DIGITS", 15)
    exact = after(*ticks)
    assert stored.log_ratios != exact.log_ratios
    assert abs(stored.log_evidence - exact.log_evidence) < 0.01


def test_ratios_are_as_short_as_they_are_stored():
    ratios = after(BAD, HEALTHY, BAD).log_ratios
    assert len(json.dumps(ratios)) < 100
    assert json.loads(json.dumps(ratios)) == list(ratios)


# Bursts


def dispersed(*bad, requests=100):
    dispersion = Dispersion()
    for number in bad:
        dispersion = dispersion.after(requests, number)
    return dispersion


@pytest.mark.parametrize(
    ("bad", "factor"),
    [
        pytest.param((), 1, id="nothing known"),
        pytest.param((5,), 1, id="one tick"),
        pytest.param((0, 0, 0), 1, id="nothing bad"),
        pytest.param((3, 3, 3), 1, id="steadier than by chance"),
        pytest.param((1, 0, 1, 0), 1, id="alone"),
        pytest.param((7, 0, 7, 0), 7, id="bursts of seven"),
        pytest.param((0, 1000), 25, id="no tick says more than this"),
    ],
)
def test_the_size_of_bursts_is_seen_in_neighbouring_ticks(bad, factor):
    assert dispersed(*bad).factor == pytest.approx(factor)


def test_a_rate_that_changes_slowly_is_no_burst():
    assert dispersed(*range(100, 200)).factor == 1


def test_ticks_without_requests_are_passed_over():
    assert dispersed(2, 3).after(0, 0) == dispersed(2, 3)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 25), st.integers(1, 40), st.floats(0.01, 0.99))
def test_the_mean_over_all_ways_to_divide_bursts_is_their_size(size, bursts, share):
    """Up to the limit, which no division of so few bursts may reach."""
    requests = round(10_000 * share), 10_000 - round(10_000 * share)
    part = requests[1] / 10_000
    mean = 0.0
    for later in range(bursts + 1):
        before = Dispersion(requests=requests[0], bad=size * (bursts - later))
        chance = math.comb(bursts, later) * part**later * (1 - part) ** (bursts - later)
        after_ = Dispersion(requests=requests[1], bad=size * later)
        mean += chance * dispersion_module._pearson(before, after_)
    assert mean == pytest.approx(size, rel=1e-6)


def test_bursts_are_weighed_as_one_and_not_by_their_requests():
    """A healthy revision: once in ten ticks all of a pod's requests fail, in either revision."""
    bursts = [a_tick(600, 0, 5400, 20 * (tick % 2)) for tick in range(10)]
    hit = [a_tick(600, 20, 5400, 0), a_tick(600, 20, 5400, 20)]
    assert after(*hit).rejects(ALPHA)
    assert not after(*bursts, *hit).rejects(ALPHA)


# Against what stable did before


def test_after_stable_has_left_its_past_is_compared():
    alone = SequentialTest().after(a_tick(600, 3, 54_000, 270), margin_percent=25)
    good = alone
    for _ in range(10):
        good = good.after_alone(a_tick(600, 3), margin_percent=25)
    assert not good.rejects(ALPHA)
    bad = alone
    for _ in range(2):
        bad = bad.after_alone(a_tick(600, 30), margin_percent=25)
    assert bad.rejects(ALPHA)


def test_a_last_answer_of_stable_does_not_move_the_bound():
    test = after(HEALTHY)
    straggler = test.after_alone(a_tick(10, 1, 5, 5), margin_percent=25)
    assert straggler == test.after_alone(a_tick(10, 1), margin_percent=25)


def test_without_a_past_nothing_is_said():
    test = SequentialTest()
    for _ in range(5):
        test = test.after_alone(a_tick(100, 100), margin_percent=25)
    assert test.evidence == pytest.approx(1)
    assert test.total == a_tick(500, 500)


def test_an_answer_that_breaks_after_it_was_counted_is_no_harm():
    """Its request is of the last tick, its failure of this one."""
    test = after(HEALTHY).after_alone(a_tick(1, 2), margin_percent=25)
    assert math.isfinite(test.evidence)
    assert lower_bound(2, 1, risk=0.01) < upper_bound(2, 1, risk=0.01) == 1
    assert lower_bound(1, 0, risk=0.01) == 0


def test_a_baseline_that_always_failed_is_no_bar():
    test = after(a_tick(10, 10, 10, 10)).after_alone(a_tick(50, 50), margin_percent=25)
    assert not test.rejects(ALPHA)


# Bounds of rates


@pytest.mark.parametrize(("bad", "requests"), [(0, 1), (0, 5400), (10, 5400), (3, 3), (500, 1000)])
def test_bounds_enclose_what_was_seen_and_tighten_with_risk(bad, requests):
    lows = [lower_bound(bad, requests, risk=risk) for risk in (1e-6, 1e-3, 0.1)]
    highs = [upper_bound(bad, requests, risk=risk) for risk in (1e-6, 1e-3, 0.1)]
    assert 0 <= lows[0] <= lows[1] <= lows[2] <= bad / requests
    assert bad / requests <= highs[2] <= highs[1] <= highs[0] <= 1


def test_bounds_are_wider_than_those_of_clopper_and_pearson():
    """Theirs at 0.5 % each side, for 30 of 300: 6.07 % and 15.4 %, from a table of the beta."""
    assert lower_bound(30, 300, risk=0.01) < 0.0607
    assert upper_bound(30, 300, risk=0.01) > 0.154
    assert lower_bound(30, 300, risk=0.01) == pytest.approx(0.0607, rel=0.3)


@pytest.mark.parametrize("rate", [0.02, 0.3])
def test_the_bound_is_ever_missed_as_rarely_as_promised(rate):
    """By exact reckoning over all ways of 100 requests, looked at after every one."""
    risk = 0.1
    reached, missed = {0: 1.0}, 0.0
    for requests in range(1, 101):
        ahead: dict[int, float] = {}
        for bad, chance in reached.items():
            ahead[bad] = ahead.get(bad, 0) + chance * (1 - rate)
            ahead[bad + 1] = ahead.get(bad + 1, 0) + chance * rate
        excluded = [bad for bad in ahead if lower_bound(bad, requests, risk=risk) > rate]
        missed += sum(ahead.pop(bad) for bad in excluded)
        reached = ahead
    assert 0 < missed <= risk


def test_divergence_of_equal_coins_is_zero():
    assert divergence(0.3, 0.3) == 0
    assert divergence(1.0, 0.5) == pytest.approx(math.log(2))


# Counts since the last look


def a_reading(source, requests, *, errors=0, revision="aaaaaaaa", began=0.0):
    at = None if began is None else START + timedelta(seconds=began)
    counts = Counts(requests=requests, errors=errors)
    return Reading(source=source, revision=revision, counts=counts, began=at)


def grown(base, now, *, since=0.0):
    return growth_of(base, now, since=START + timedelta(seconds=since))


@pytest.mark.parametrize(
    ("base", "now", "since", "expected"),
    [
        pytest.param([a_reading("p", 10)], [a_reading("p", 14)], 5, 4, id="grew"),
        pytest.param([a_reading("p", 10)], [a_reading("p", 3)], 5, 3, id="began anew"),
        pytest.param([], [a_reading("p", 7, began=6)], 5, 7, id="new, and began since"),
        pytest.param([], [a_reading("p", 7, began=4)], 5, 0, id="new, but began before"),
        pytest.param([], [a_reading("p", 7, began=None)], 5, 0, id="new, nobody knows since when"),
        pytest.param(
            [a_reading("p", 10, revision="bbbbbbbb")],
            [a_reading("p", 14, began=-5)],
            0,
            0,
            id="a router's counts of another revision are another reading",
        ),
    ],
)
def test_what_is_new_is_counted_once(base, now, since, expected):
    assert grown(base, now, since=since).counts["aaaaaaaa"].requests == expected


def test_a_source_that_could_not_be_read_is_caught_up_with():
    first = grown([], [a_reading("p", 5)], since=1)
    silent = grown(first.base, [], since=2)
    back = grown(silent.base, [a_reading("p", 25, errors=20)], since=3)
    assert silent.counts == {}
    assert back.counts["aaaaaaaa"] == Counts(requests=20, errors=20)


def test_the_base_keeps_no_more_than_a_few_that_are_gone():
    base = [a_reading(f"gone-{number}", 10) for number in range(20)]
    now = [a_reading(f"here-{number}", 10) for number in range(3)]
    kept = grown(base, now).base
    assert len(kept) == growth_module.MOST_SOURCES
    assert sum(reading.source.startswith("here") for reading in kept) == 3


COUNTS = st.builds(Counts, **dict.fromkeys(Counts.__dataclass_fields__, st.integers(0, 10**6)))


@settings(deadline=None, max_examples=40)
@given(COUNTS, COUNTS)
def test_counts_add_and_subtract(one, other):
    assert one + other - other == one
    assert (one + other).requests == one.requests + other.requests
    assert (Counts() - one).is_negative == (one != Counts())


PODS = range(4)
SECONDS = st.lists(
    st.tuples(
        st.tuples(*[st.integers(0, 9)] * len(PODS)),
        st.sets(st.sampled_from(PODS), max_size=1),
        st.sets(st.sampled_from(PODS)),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


class World:
    """Pods that serve, restart, and are read or not: more than the base has room for.

    Half of them began before the run did.
    """

    def __init__(self):
        self.counts = [0] * len(PODS)
        self.began = [-10.0, -10.0, 0.5, 0.5]
        self.served = 0

    def live(self, second, served, restarted):
        for pod in restarted:
            self.counts[pod], self.began[pod] = 0, second - 0.5
        for pod in PODS:
            self.counts[pod] += served[pod]
        self.served += sum(served)

    def readings(self, read):
        return [a_reading(f"{pod}", self.counts[pod], began=self.began[pod]) for pod in read]


def counted(seconds, world):
    """As the operator counts: a tick whose write is lost to a crash has not happened."""
    total, state, since = 0, Growth(counts={}, base=()), 0.0
    for second, (served, restarted, read, crashed) in enumerate(seconds, start=1):
        world.live(second, served, restarted)
        now = world.readings(read)
        growth = grown(state.base, now, since=since)
        assert growth == grown(reversed(state.base), reversed(now), since=since)
        assert not any(counts.is_negative for counts in growth.counts.values())
        if not crashed:
            total += sum(counts.requests for counts in growth.counts.values())
            state, since = growth, float(second)
    return total


@settings(deadline=None, max_examples=40)
@given(SECONDS)
def test_nothing_is_counted_twice_whatever_crashes_restarts_or_is_not_read(seconds):
    world = World()
    with patch.object(growth_module, "MOST_SOURCES", 2):
        assert counted(seconds, world) <= world.served


@settings(deadline=None, max_examples=40)
@given(SECONDS)
def test_everything_is_counted_if_no_pod_restarts_whichever_are_read_meanwhile(seconds):
    world = World()
    none = (0,) * len(PODS)
    first, last = (none, set(), set(PODS), False), (none, set(), set(PODS), False)
    lives = [(served, set(), read, crashed) for served, _, read, crashed in seconds]
    assert counted([first, *lives, last], world) == world.served
