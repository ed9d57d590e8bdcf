"""Gates: what they count, when they fail, when they wait, and what they say about it."""

import json

import pytest

from modelserver_operator.apis.rollout import Analysis, Gate, LatencyGate, Shadow
from modelserver_operator.apis.rollout_status import GateOutcome, GateStatus
from modelserver_operator.cluster.readings import router_answer
from modelserver_operator.rollout.counts import Counts
from modelserver_operator.rollout.gates import (
    GateName,
    advanced,
    gates_of,
    judged,
    shadow_ticks,
    ticks_of,
    verdict_of,
)
from modelserver_operator.rollout.power import power_of, requests_needed
from modelserver_operator.rollout.sequential import SequentialTest, evidence_needed
from modelserver_operator.rollout.stored_gates import restored, stored_gates

PASSING, FAILING, UNDECIDED = GateOutcome.PASSING, GateOutcome.FAILING, GateOutcome.UNDECIDED

HEALTHY = ticks_of(
    Counts(requests=300, errors=1, slow=30), Counts(requests=2700, errors=10, slow=270)
)
FAILS = ticks_of(Counts(requests=300, errors=6, slow=30), Counts(requests=2700, errors=5, slow=270))
SLOW = ticks_of(Counts(requests=300, errors=1, slow=90), Counts(requests=2700, errors=10, slow=270))


def run(analysis, *growths, shadow=None, alone=False):
    """The gates, and their tests after these ticks."""
    gates, tests = gates_of(analysis, shadow), {}
    for growth in growths:
        tests = advanced(gates, tests, growth, alone=alone)
    return gates, tests


def outcomes(analysis, *growths, shadow=None, **more):
    gates, tests = run(analysis, *growths, shadow=shadow)
    return {outcome.gate: outcome for outcome in judged(gates, tests, **more)}


# Which gates there are


@pytest.mark.parametrize(
    ("analysis", "shadow", "expected"),
    [
        (Analysis(), None, {"errors": 0.005, "latency": 0.005}),
        (
            Analysis(false_alarm_percent=10, latency=LatencyGate(enabled=False)),
            None,
            {"errors": 0.1},
        ),
        (Analysis(errors=Gate(enabled=False)), None, {"errors": 0, "latency": 0.01}),
        (
            Analysis(max_error_percent=5),
            Shadow(),
            dict.fromkeys(("errors", "latency", "disagreement", "maxErrorPercent"), 0.0025),
        ),
        (
            Analysis(
                false_alarm_percent=4,
                time_to_first_token=LatencyGate(),
                inter_token_time=LatencyGate(),
            ),
            None,
            dict.fromkeys(("errors", "latency", "timeToFirstToken", "interTokenTime"), 0.01),
        ),
    ],
)
def test_false_alarms_are_divided_among_the_gates_that_can_fail(analysis, shadow, expected):
    found = {gate.name: gate.alpha for gate in gates_of(analysis, shadow)}
    assert found == pytest.approx(expected)


def test_streams_and_tokens_are_counted_by_their_own_gates():
    ticks = ticks_of(
        Counts(streams=10, slow_first=2, gaps=500, slow_gaps=7),
        Counts(streams=90, slow_first=9, gaps=4000, slow_gaps=30),
    )
    first, gaps = ticks[GateName.FIRST_TOKEN], ticks[GateName.TOKEN_GAPS]
    assert (first.requests, first.bad, first.baseline_requests, first.baseline_bad) == (
        10,
        2,
        90,
        9,
    )
    assert (gaps.requests, gaps.bad, gaps.baseline_requests, gaps.baseline_bad) == (
        500,
        7,
        4000,
        30,
    )


# Three outcomes


def test_a_healthy_revision_passes():
    found = outcomes(Analysis(max_error_percent=5), HEALTHY, HEALTHY)
    assert {outcome.verdict for outcome in found.values()} == {PASSING}
    assert verdict_of(found.values()) is PASSING


@pytest.mark.parametrize(("growth", "gate"), [(FAILS, "errors"), (SLOW, "latency")])
def test_a_bad_revision_fails_the_gate_that_looks_at_it(growth, gate):
    found = outcomes(Analysis(), growth, growth)
    assert {name for name, one in found.items() if one.verdict is FAILING} == {gate}
    assert verdict_of(found.values()) is FAILING


def test_failing_needs_no_fewest_requests():
    found = outcomes(Analysis(min_samples=100_000), FAILS, FAILS)
    assert found[GateName.ERRORS].verdict is FAILING
    assert found[GateName.LATENCY].verdict is UNDECIDED
    assert verdict_of(found.values()) is FAILING


def test_too_few_requests_at_this_step_are_no_decision():
    gates, tests = run(Analysis(min_samples=50), HEALTHY)
    tests = {name: test.at_next_step() for name, test in tests.items()}
    errors = judged(gates, tests)[0]
    assert errors.verdict is UNDECIDED
    assert errors.message.startswith("0 of at least 50 requests at this step; 1 of 300 requests")
    assert verdict_of(judged(gates, advanced(gates, tests, HEALTHY))) is PASSING


def test_no_requests_at_all_are_no_decision():
    assert verdict_of(outcomes(Analysis()).values()) is UNDECIDED


def test_nothing_to_compare_with_is_no_decision():
    found = outcomes(Analysis(), ticks_of(Counts(requests=500, errors=100), Counts()))
    assert found[GateName.ERRORS].verdict is UNDECIDED
    assert "nothing of the stable revision" in found[GateName.ERRORS].message


def test_what_looks_bad_gets_no_more_traffic_until_it_is_known():
    suspicious = ticks_of(Counts(requests=300, errors=4), Counts(requests=2700, errors=5))
    found = outcomes(Analysis(), suspicious, suspicious)[GateName.ERRORS]
    assert found.verdict is UNDECIDED
    assert "more requests must show whether this is chance" in found.message


def test_a_gate_that_is_switched_off_still_counts_and_waits_for_its_requests():
    off = Analysis(errors=Gate(enabled=False), latency=LatencyGate(enabled=False))
    assert verdict_of(outcomes(off).values()) is UNDECIDED
    found = outcomes(off, FAILS, FAILS)
    assert verdict_of(found.values()) is PASSING
    assert found[GateName.ERRORS].message.startswith("12 of 600 requests failed against 10 of 5400")


def test_a_wider_margin_lets_more_pass():
    wide = Analysis(errors=Gate(margin_percent=2000))
    assert outcomes(wide, FAILS, FAILS)[GateName.ERRORS].verdict is PASSING


@pytest.mark.parametrize(("errors", "verdict"), [(12, PASSING), (30, FAILING)])
def test_the_bound_on_errors_looks_at_no_other_revision(errors, verdict):
    """Both fail alike, so that nothing else can object."""
    alike = ticks_of(Counts(requests=150, errors=errors), Counts(requests=1350, errors=9 * errors))
    found = outcomes(Analysis(max_error_percent=8), alike, alike)
    assert found[GateName.ERRORS].verdict is PASSING
    assert found[GateName.MAX_ERRORS].verdict is verdict
    assert "at most 8 % is allowed" in found[GateName.MAX_ERRORS].message


def test_after_stable_has_left_its_past_is_compared():
    gates, tests = run(Analysis(), *[HEALTHY] * 3)
    alone = ticks_of(Counts(requests=600, errors=60, slow=60), Counts())
    for _ in range(2):
        tests = advanced(gates, tests, alone, alone=True)
    assert {one.gate for one in judged(gates, tests) if one.verdict is FAILING} == {"errors"}


# Shadow


def shadowed(pairs, disagreed, repeated, repeated_disagreed):
    return shadow_ticks(
        Counts(requests=pairs, errors=disagreed),
        Counts(requests=repeated, errors=repeated_disagreed),
    )


@pytest.mark.parametrize(
    ("tick", "verdict"),
    [
        pytest.param(shadowed(25, 25, 25, 0), FAILING, id="answers differently"),
        pytest.param(shadowed(25, 15, 25, 0), FAILING, id="often differently"),
        pytest.param(shadowed(25, 15, 25, 15), PASSING, id="as noisy as stable is with itself"),
        pytest.param(shadowed(25, 0, 25, 0), PASSING, id="the same"),
        pytest.param(shadowed(20, 0, 20, 0), UNDECIDED, id="too few pairs"),
        pytest.param(shadowed(25, 0, 0, 0), UNDECIDED, id="stable was never asked twice"),
    ],
)
def test_disagreement_is_held_against_how_stable_disagrees_with_itself(tick, verdict):
    found = outcomes(Analysis(), tick, tick, shadow=Shadow(min_pairs=50))
    assert found[GateName.SHADOW].verdict is verdict


# What is said


@pytest.mark.parametrize(
    ("growth", "gate", "message"),
    [
        (
            FAILS,
            GateName.ERRORS,
            (
                "12 of 600 requests failed against 10 of 5400 at the stable revision"
                " (10.8 times as often at 2.00 % against 0.19 %); evidence 17996, needed 250"
            ),
        ),
        (
            SLOW,
            GateName.LATENCY,
            (
                "180 of 600 requests were slow (over 250 ms) against 540 of 5400 at the stable"
                " revision (3.0 times as often at 30.00 % against 10.00 %);"
                " evidence 2e+18, needed 250"
            ),
        ),
        (
            ticks_of(Counts(requests=50, errors=1), Counts(requests=450)),
            GateName.ERRORS,
            (
                "2 of 100 requests failed against 0 of 900 at the stable revision"
                " (2.00 % against 0.00 %); evidence 21, needed 250"
            ),
        ),
    ],
)
def test_evidence_is_told_with_its_numbers(growth, gate, message):
    found = outcomes(Analysis(), growth, growth, slow_above={GateName.LATENCY: 0.25})
    assert found[gate].message == message


# What could be seen


# share: requests for 10, 5, 3 and 2 times, at base rates of 0.5 % and 0.1 %
NEEDED = {
    0.05: ((131, 655), (477, 2384), (1695, 8473), (7717, 38587)),
    0.10: ((150, 750), (530, 2650), (1851, 9257), (8336, 41678)),
    0.50: ((408, 2038), (1300, 6500), (4187, 20934), (17678, 88388)),
}


@pytest.mark.parametrize(
    ("share", "times", "base_rate", "expected"),
    [
        (share, times, base_rate, expected)
        for share, row in NEEDED.items()
        for times, pair in zip((10, 5, 3, 2), row, strict=True)
        for base_rate, expected in zip((0.005, 0.001), pair, strict=True)
    ],
)
def test_needed_requests_follow_from_the_divergence(share, times, base_rate, expected):
    needed = requests_needed(
        times, share=share, base_rate=base_rate, margin_percent=25, evidence=100
    )
    assert needed == pytest.approx(expected, abs=1)


def test_as_many_requests_as_are_said_to_be_needed_reject():
    """An average tick of a revision that fails 10 times as often, until the test rejects."""
    gates, tests = run(Analysis())
    needed = requests_needed(
        10, share=0.1, base_rate=0.01, margin_percent=25, evidence=evidence_needed(0.005)
    )
    tick = ticks_of(Counts(requests=10, errors=1), Counts(requests=90, errors=1))
    requests = 0
    while not tests.get(GateName.ERRORS, SequentialTest()).rejects(0.005):
        tests = advanced(gates, tests, tick)
        requests += 10
    assert requests == pytest.approx(needed, rel=0.3)


def test_what_is_no_worse_than_the_margin_cannot_be_detected():
    more = {"share": 0.5, "base_rate": 0.1, "margin_percent": 100, "evidence": 100}
    assert requests_needed(2.0, **more) is None
    assert requests_needed(2.5, **more) > 0


def test_power_is_told_with_what_is_missing():
    gates, tests = run(Analysis(), HEALTHY)
    power = power_of(gates[0], tests[GateName.ERRORS])
    assert power.detectable_times == 10
    assert power.message == (
        "these requests can show 10 times as often, 3 times as often after 2536 more requests"
    )
    assert power.more_requests == 2536
    later = power_of(gates[0], run(Analysis(), *[HEALTHY] * 20)[1][GateName.ERRORS])
    assert later.more_requests == 0
    assert later.detectable_times <= 3


def test_nothing_is_detected_with_next_to_nothing():
    gates, tests = run(Analysis(), ticks_of(Counts(requests=2), Counts(requests=20)))
    power = power_of(gates[0], tests[GateName.ERRORS])
    assert power.detectable_times is None
    assert "can show nothing" in power.message


def test_there_is_no_power_to_tell_of_without_requests_or_comparison():
    gates, tests = run(Analysis(max_error_percent=5, errors=Gate(enabled=False)), HEALTHY)
    told = {gate.name: power_of(gate, tests[gate.state]) for gate in gates}
    assert [name for name, power in told.items() if power] == ["latency"]
    assert power_of(gates[1], SequentialTest()) is None


# Stored


@pytest.mark.parametrize("waits", [False, True])
def test_gates_come_back_from_the_status_as_they_were(waits):
    shadow = Shadow()
    growths = [FAILS | shadowed(20, 3, 4, 1), HEALTHY]
    if waits:
        growths.append(ticks_of(Counts(requests=5, errors=1), Counts()))
    gates, tests = run(Analysis(max_error_percent=5), *growths, shadow=shadow)
    stored = stored_gates(gates, tests, judged(gates, tests))
    texts = [gate.model_dump_json(by_alias=True, exclude_defaults=True) for gate in stored]
    back = restored(GateStatus.model_validate_json(text) for text in texts)
    assert back == tests
    assert judged(gates, back) == judged(gates, tests)
    assert sum(map(len, texts)) < 2500, "the whole status must stay below 4 KiB"


def test_whole_numbers_among_ratios_are_read_too():
    """The API server writes 0.0 as 0."""
    (gate,) = stored_gates(gates_of(Analysis())[:1], {}, judged(gates_of(Analysis()), {}))
    text = json.dumps(gate.model_dump(by_alias=True)).replace("0.0", "0")
    assert restored([GateStatus.model_validate_json(text)])["errors"] == SequentialTest()


def test_the_longest_sentence_fits_the_status():
    huge = Counts(requests=10**8, errors=10**7, slow=10**7, streams=10**8, slow_first=10**7)
    growth = ticks_of(huge, huge) | shadow_ticks(huge, huge)
    gates, tests = run(Analysis(max_error_percent=1), growth, shadow=Shadow())
    for gate in stored_gates(gates, tests, judged(gates, tests, slow_above={"latency": 3600.0})):
        assert len(gate.message) <= 400


def test_a_copy_without_a_good_answer_disagrees():
    shadow = {"pairs": 40, "disagreed": 1, "failed": 10, "baselinePairs": 45, "baselineFailed": 5}
    status = {"version": "1", "startedAt": "2026-11-21T10:00:00Z", "edgesSeconds": [1]}
    copies = router_answer(json.dumps(status | {"shadow": shadow}).encode()).copies
    assert (copies.pairs, copies.disagreed) == (50, 11)
    assert (copies.baseline_pairs, copies.baseline_disagreed) == (50, 5)
