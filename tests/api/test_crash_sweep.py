"""A SIGKILL at any write changes nothing about how a ModelServer ends up.

The suite kills at every few writes; `MODELSERVER_TEST_LONG=1` and `python -m bench.crash_sweep`
kill before and after every single one.
"""

import os

import pytest

from support.crash_sweep import PHASES, open_lanes, sweep

IS_LONG = bool(os.environ.get("MODELSERVER_TEST_LONG"))
LANES = 3
STRIDE = 1 if IS_LONG else 6


@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("stage", "installation")
def test_a_kill_at_any_write_leads_to_the_same_end(cluster, kube, manifests, tmp_path):
    with open_lanes(cluster, kube, manifests, tmp_path, LANES) as lanes:
        result = sweep(lanes, lambda longest: range(1, longest + 1, STRIDE))
    assert [str(case) for case in result.failed] == []
    killed = {case.phase for case in result.tried}
    assert killed == {phase for phase in PHASES if result.reference[phase].writes}
    assert len(result.tried) >= 2 * len(result.reference["create"].writes) // STRIDE
