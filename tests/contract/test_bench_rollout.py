"""The simulation of rollouts: what is drawn is what was asked for, each rule does as it says."""

import json
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from bench import rollout
from bench.results_file import FOLDER
from bench.rolling.chart import chart
from bench.rolling.rules import ARGO_ROLLOUTS, FLAGGER, NEVER, FixedThreshold, gate_rolls_back_at
from bench.rolling.scenarios import DEFAULT_STEPS, TEN_STEPS, Scenario, Truth, all_scenarios
from bench.rolling.table import table
from bench.rolling.traffic import Drawn, draw


def a_scenario(**fields):
    known = {"name": "x", "requests_per_second": 20, "error_rate": 0.01, "looks": TEN_STEPS}
    return Scenario(**known | fields)


def a_drawn(requests, bad, *, others=1000, others_bad=1):
    """One rollout, look by look."""
    shape = (len(requests), 1)
    return Drawn(
        requests=np.array(requests).reshape(shape),
        bad=np.array(bad).reshape(shape),
        baseline_requests=np.full(shape, others),
        baseline_bad=np.full(shape, others_bad),
    )


# What is drawn


def test_the_same_seed_draws_the_same_and_another_does_not():
    one, same, other = (draw(a_scenario(), 5, seed) for seed in (1, 1, 2))
    assert (one.requests == same.requests).all()
    assert (one.bad == same.bad).all()
    assert (one.requests != other.requests).any()


@pytest.mark.parametrize("burst", [1, 10])
def test_as_many_fail_as_are_to_fail(burst):
    drawn = draw(a_scenario(times=3.0, burst=burst), 400, 1)
    assert drawn.bad.sum() / drawn.requests.sum() == pytest.approx(0.03, rel=0.05)
    baseline = drawn.baseline_bad.sum() / drawn.baseline_requests.sum()
    assert baseline == pytest.approx(0.01, rel=0.05)
    assert (drawn.bad <= drawn.requests).all()


def test_an_incident_hits_both_and_a_late_fault_only_one_from_then_on():
    incident = draw(a_scenario(error_rate=0, incident=(10, 20, 0.5)), 20, 1)
    late = draw(a_scenario(error_rate=0.01, times=50.0, bad_from_look=25), 20, 1)
    for bad in (incident.bad, incident.baseline_bad):
        assert bad[10:20].sum() == bad.sum() > 0
    assert late.bad[25:].sum() > 20 * late.bad[:25].sum()
    assert late.baseline_bad[25:].mean() < 2 * late.baseline_bad[:25].mean()


def test_weights_divide_the_requests():
    drawn = draw(a_scenario(), 50, 1)
    share = drawn.requests.sum(1) / (drawn.requests.sum(1) + drawn.baseline_requests.sum(1))
    assert share == pytest.approx([look.weight for look in TEN_STEPS], rel=0.1)


# The rules


@pytest.mark.parametrize(
    ("rule", "requests", "bad", "look"),
    [
        (ARGO_ROLLOUTS, [100, 100, 100], [0, 2, 0], 1),
        (ARGO_ROLLOUTS, [100, 100, 100], [1, 1, 1], NEVER),
        (ARGO_ROLLOUTS, [100, 0, 100], [0, 0, 0], 1),
        (FLAGGER, [100] * 6, [2, 0, 2, 2, 2, 2], 5),
        (FLAGGER, [100] * 6, [2, 0, 2, 0, 2, 2], NEVER),
        (FixedThreshold(max_error_rate=0.01, failures=1, no_value_fails=False), [0, 9], [0, 0], -1),
    ],
)
def test_fixed_thresholds_count_failed_looks(rule, requests, bad, look):
    assert rule.rolled_back_at(a_drawn(requests, bad)).tolist() == [look]


def test_the_gate_rolls_back_what_fails_again_and_nothing_else():
    looks = TEN_STEPS[:4]
    bad = a_drawn([100, 100, 100, 100], [0, 9, 9, 9])
    healthy = a_drawn([100, 100, 100, 100], [0, 1, 0, 0], others_bad=10)
    assert gate_rolls_back_at(bad, looks).tolist() == [2]
    assert gate_rolls_back_at(healthy, looks).tolist() == [NEVER]


def test_with_all_traffic_the_gate_compares_with_the_past():
    drawn = draw(next(one for one in all_scenarios() if one.name.endswith("in_bake")), 1, 1)
    drawn.baseline_requests[-20:] = 0
    (look,) = gate_rolls_back_at(drawn, DEFAULT_STEPS)
    assert DEFAULT_STEPS[look].weight == 1


# What is told


def test_a_scenario_is_told_with_the_rules_that_look_as_it_does():
    row = rollout.simulated(a_scenario(times=10.0), 10, 1)
    assert row["rolled_back_percent_ours"] == 100
    assert 0 < row["minutes_until_rollback_ours"] <= 50
    assert "rolled_back_percent_flagger_rule" in row
    default = rollout.simulated(a_scenario(looks=DEFAULT_STEPS), 2, 1)
    assert "rolled_back_percent_flagger_rule" not in default
    assert default["truth"] is Truth.HEALTHY


def test_who_is_rolled_back_before_turning_bad_is_no_find(monkeypatch):
    monkeypatch.setattr(rollout, "gate_rolls_back_at", lambda *_: np.array([3, 30, 40, NEVER]))
    row = rollout.simulated(a_scenario(times=3.0, bad_from_look=25), 4, 1)
    assert row["rolled_back_percent_ours"] == 50
    assert row["rolled_back_too_early_percent_ours"] == 25
    assert row["minutes_until_rollback_ours"] == 11


def test_names_of_scenarios_are_unique():
    names = [scenario.name for scenario in all_scenarios()]
    assert len(set(names)) == len(names)


# What is published


@pytest.fixture(scope="module")
def published():
    return json.loads((FOLDER / "rollout.json").read_text())


def test_the_picture_is_drawn_from_the_result_file(published):
    assert rollout.PICTURE.read_text() == chart(published["rounds"])
    ET.fromstring(rollout.PICTURE.read_text())


def test_the_documentation_tells_what_was_found(published):
    text = (rollout.REPOSITORY / "docs" / "statistics.md").read_text()
    rows = {row["scenario"]: row for row in published["rounds"]}
    assert table(published["rounds"]) in text
    for burst in (2, 5, 20):
        percent = rows[f"20rps_0.5%_bursts_of_{burst}"]["rolled_back_percent_ours"]
        assert f"{percent:g} % with bursts of {burst}" in text
    for name in ("20rps_0.5%_3x_after_3h", "20rps_0.5%_10x_after_3h"):
        percent, minutes = (
            rows[name][f"{kind}_ours"] for kind in ("rolled_back_percent", "minutes_until_rollback")
        )
        assert f"{percent:g} % after {minutes:g} minutes" in text
    ten, three = (
        rows[f"20rps_0.5%_default_steps_{times}x"]["rolled_back_percent_ours"] for times in (10, 3)
    )
    assert f"ten times as many errors in {ten:g} % and three times as many in {three:g} %" in text


def test_every_scenario_is_published(published):
    assert [row["scenario"] for row in published["rounds"]] == [
        scenario.name for scenario in all_scenarios()
    ]


def test_the_worst_is_over_all_healthy_revisions_with_independent_failures(published):
    worst = max(
        row["rolled_back_percent_ours"]
        for row in published["rounds"]
        if row["truth"] == "healthy" and "bursts" not in row["scenario"]
    )
    assert published["figures"]["false_rollback_percent_worst"] == worst
    assert published["targets"]["false_rollback_percent_worst"]["holds"] == (worst <= 1)
