"""A SIGKILL at any write of a rollout changes nothing about how it ends, and nothing on its way.

The suite kills at some writes of the whole rollout; `MODELSERVER_TEST_LONG=1` and
`python -m bench.rollout_sweep` kill before and after every single one.
"""

import os

import pytest

from support.crash_sweep import open_lanes, sweep
from support.rollout_sweep import story_of

pytestmark = pytest.mark.rollouts

IS_LONG = bool(os.environ.get("MODELSERVER_TEST_LONG"))
LANES = ["rolling-a", "rolling-b", "rolling-c"]
STRIDE = 1 if IS_LONG else 41  # odd: both sides come in turn


@pytest.mark.timeout(7200 if IS_LONG else 1800)
@pytest.mark.usefixtures("installation")
def test_a_kill_at_any_write_of_a_rollout_leads_to_the_same_end(
    cluster, kube, manifests, stage, tmp_path
):
    for lane in LANES:
        stage.direct(stage.traffic.outcome, namespace=lane)
    story = story_of(stage.traffic)
    with open_lanes(cluster, kube, manifests, tmp_path, LANES, story) as lanes:
        result = sweep(lanes, stride=STRIDE)
    assert [str(case) for case in result.failed] == []
    assert {case.point.phase for case in result.tried} == {"create", "roll"}
