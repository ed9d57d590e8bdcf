"""What decides besides errors and latency; and rollouts where pods are scarce."""

import json

import pytest

from support import pod_outcomes
from support.operator_process import OperatorProcess
from support.played_traffic import Behaviour
from support.processes import ShiftedClock
from support.rollouts import ANALYSIS, canary, intended_weights, phases, reports

pytestmark = pytest.mark.rollouts

FASTER = {"SETTLE_SECONDS": "1"}  # no node has to learn of new endpoints
LATE_FIRST = Behaviour(slow_first_percent=60)
LATE_TOKENS = Behaviour(slow_gap_percent=20)
STREAMS = {"timeToFirstToken": {"slowAboveMilliseconds": 500}, "interTokenTime": {}}


@pytest.fixture(scope="module")
def clock(tmp_path_factory):
    return ShiftedClock(tmp_path_factory.mktemp("clock") / "clock")


@pytest.fixture(scope="module")
def operator(installation, module_proxy, tmp_path_factory, clock):
    """One replica for all tests of this file, whose clock a test may set."""
    folder = tmp_path_factory.mktemp("operator")
    process = OperatorProcess(installation, module_proxy, folder, settings=FASTER, clock=clock)
    with process:
        yield process


@pytest.fixture(autouse=True)
def _right_time(clock):
    yield
    clock.set(0)


@pytest.mark.parametrize("source", ["Auto", "Pods"])
@pytest.mark.parametrize(
    ("behaviour", "reason"), [(LATE_FIRST, "TimeToFirstToken"), (LATE_TOKENS, "InterTokenTime")]
)
def test_a_revision_that_streams_slowly_is_rolled_back(play, stage, source, behaviour, reason):
    old = play.begin(canary(analysis=ANALYSIS | STREAMS | {"source": source}))
    with stage.intermission():
        new = play.change()
        stage.traffic.behaviours[new] = behaviour
    play.until_rolled_back(old)
    failed = play.status["failedRevisions"]
    assert [(one["revision"], one["reason"]) for one in failed] == [(new, reason)]
    assert "evidence" in failed[0]["evidence"]


def test_a_revision_that_streams_as_before_is_promoted_by_four_gates(play):
    play.begin(canary(analysis=ANALYSIS | STREAMS))
    new = play.change()
    play.until_promoted(new)
    gates = {one["name"]: one for one in play.run["gates"]}
    assert {"errors", "latency", "timeToFirstToken", "interTokenTime"} <= gates.keys()
    assert gates["timeToFirstToken"]["requests"] == gates["errors"]["requests"]
    assert gates["interTokenTime"]["requests"] > gates["timeToFirstToken"]["requests"]


def test_slow_streams_that_no_gate_asks_about_roll_nothing_back(play, stage):
    play.begin()
    with stage.intermission():
        new = play.change()
        stage.traffic.behaviours[new] = LATE_FIRST
    play.until_promoted(new)


# -- pods ------------------------------------------------------------------------------------------


def test_shift_never_has_more_than_one_pod_more_than_replicas(play, operator):
    old = play.begin(canary(capacityPolicy="Shift"), replicas=4)
    new = play.change()
    play.until_promoted(new)
    weights = intended_weights(operator.proxy, play.servers.namespace)
    assert weights == [0, 20, 25, 50, 75, 100]
    for asked in replicas_asked(operator, play, (old, new)):
        assert sum(asked.values()) <= 5
    play.until_only(new)


def test_shift_gives_the_pods_of_stable_back_before_its_traffic(play, operator, stage):
    old = play.begin(canary(capacityPolicy="Shift", bakeSeconds=3600), replicas=4)
    new = play.change()
    play.until_phase("Baking")
    stage.traffic.behaviours[new] = Behaviour(error_percent=20)
    play.until_rolled_back(old)
    weights = intended_weights(operator.proxy, play.servers.namespace)
    back = weights[weights.index(100) :]
    assert back == sorted(back, reverse=True)
    assert len(back) > 2
    for asked in replicas_asked(operator, play, (old, new)):
        assert sum(asked.values()) <= 5
    play.until_only(old)


def replicas_asked(operator, play, revisions):
    """After each write of a Deployment, what both ask for."""
    asked = {}
    names = {f"chat-{one}" for one in revisions}
    for seen in operator.proxy.writes(namespace=play.servers.namespace):
        request = seen.request
        if request.resource == "deployments" and request.name in names and seen.succeeded:
            asked[request.name] = json.loads(seen.body).get("spec", {}).get("replicas", 0)
            yield dict(asked)


def test_auto_swaps_where_the_cluster_has_no_room_for_both(play, operator, stage, clock):
    old = play.begin({"bakeSeconds": 0})
    with stage.intermission():
        new = play.change()
        stage.direct(pod_outcomes.unschedulable(), server="chat", revision=new)
    play.until_phase("Starting")
    assert play.status["servingRevision"] == old
    play.until(lambda status: "nvidia.com/gpu" in str(status.get("diagnosis")), "no room")
    clock.set(60)
    assert play.run["phase"] == "Starting"
    clock.set(600)
    play.servers.patch("chat", {"rollout": {"historyLimit": 3}})  # a look
    play.until_phase("Draining")
    stage.direct(stage.traffic.outcome, server="chat", revision=new)
    play.until_promoted(new)
    assert [
        one
        for one in phases(operator.proxy, play.servers.namespace)
        if one in {"Draining", "Swapping"}
    ] == ["Draining", "Swapping"]
    strategies = {
        report["rollout"].get("strategy", "")
        for report in reports(operator.proxy, play.servers.namespace)
        if "rollout" in report
    }
    assert strategies == {"", "HoldAndSwap"}
    play.until_only(new)


def test_auto_with_something_to_examine_never_swaps(play, stage, clock):
    play.begin({"analysis": ANALYSIS, "bakeSeconds": 0})
    with stage.intermission():
        new = play.change()
        stage.direct(pod_outcomes.unschedulable(), server="chat", revision=new)
    play.until_holding("NoCapacity")
    clock.set(600)
    play.servers.patch("chat", {"rollout": {"historyLimit": 3}})  # a look
    run = play.until(
        lambda status: (
            status["observedGeneration"] == play.servers.get("chat")["metadata"]["generation"]
            and status["rollout"]
        ),
        "a look",
    )
    assert (run["strategy"], run["phase"]) == ("Canary", "Preparing")
    assert play.condition("Serving") == ("True", "Serving")
