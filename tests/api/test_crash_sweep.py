"""A SIGKILL at any write changes nothing about how a ModelServer ends up.

The suite kills at every few writes; `MODELSERVER_TEST_LONG=1` and `python -m bench.crash_sweep`
kill before and after every single one.
"""

import os

import pytest

from support.crash_sweep import open_lanes, sweep

IS_LONG = bool(os.environ.get("MODELSERVER_TEST_LONG"))
LANES = ["sweep-a", "sweep-b", "sweep-c"]
STRIDE = 1 if IS_LONG else 5  # odd: both sides come in turn


@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("stage", "installation")
def test_a_kill_at_any_write_leads_to_the_same_end(cluster, kube, manifests, tmp_path):
    with open_lanes(cluster, kube, manifests, tmp_path, LANES) as lanes:
        result = sweep(lanes, stride=STRIDE)
    assert [str(case) for case in result.failed] == []
    assert {case.point.phase for case in result.tried} == {"create", "change"}
    points = sum(len(points) for points in result.points.values())
    assert len(result.tried) >= points // STRIDE


def test_deleting_takes_no_write_of_the_operator_that_could_be_interrupted(servers, operator):
    servers.create("chat")
    servers.wait_settled("chat")
    seen = len(operator.proxy.seen)
    servers.delete("chat")
    operator.kill()
    servers.wait_gone("chat")
    # The phase of a pod that has just become ready may still have been on its way, and the Event
    # that tells what the status has said.
    written = operator.proxy.writes(seen, servers.namespace)
    late = {"pods", "events"}
    assert [str(w) for w in written if w.request.resource not in late] == []
    operator.start()
    servers.create("other")
    servers.wait_settled("other")
    assert servers.child_names("chat") == []


@pytest.fixture
def operator(make_operator):
    return make_operator().start()
