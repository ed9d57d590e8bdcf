"""A SIGKILL at any write of a hand-over changes nothing about how it ends, and takes no pods away.

The suite kills at some writes; `MODELSERVER_TEST_LONG=1` kills before and after every single one.
"""

import os

import pytest

from support.crash_sweep import open_lanes, sweep
from support.played_scaling import resource_metrics
from support.scaling_sweep import PHASES, story_of, watched_numbers

IS_LONG = bool(os.environ.get("MODELSERVER_TEST_LONG"))
LANES = ["scaling-a", "scaling-b", "scaling-c"]
STRIDE = 1 if IS_LONG else 7  # odd: both sides come in turn


@pytest.mark.timeout(7200 if IS_LONG else 1800)
@pytest.mark.usefixtures("installation")
def test_a_kill_at_any_write_of_a_hand_over_takes_no_pods_away(
    cluster, kube, manifests, stage, tmp_path
):
    for lane in LANES:
        stage.direct(stage.traffic.outcome, namespace=lane)
    with resource_metrics(kube), watched_numbers(kube) as numbers:
        story = story_of(numbers)
        with open_lanes(cluster, kube, manifests, tmp_path, LANES, story) as lanes:
            result = sweep(lanes, stride=STRIDE)
    assert [str(case) for case in result.failed] == []
    assert {case.point.phase for case in result.tried} == set(PHASES)
