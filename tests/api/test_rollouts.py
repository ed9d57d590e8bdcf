"""A change of revision that evidence decides, on a real API server; the traffic is played."""

import pytest

from support import pod_outcomes
from support.played_traffic import Behaviour
from support.rollouts import ANALYSIS, canary, intended_weights, phases

pytestmark = pytest.mark.rollouts

WRONG = Behaviour(error_percent=20)
SLOW = Behaviour(slow_percent=60)
GOLDEN = {"goldenSet": {"configMapRef": {"name": "golden", "key": "cases.jsonl"}}}
HELD = canary(steps=[{"weightPercent": 20, "holdSeconds": 3600}, {"weightPercent": 100}])


def written(operator, play):
    return operator.proxy, play.servers.namespace


# -- the way forward -------------------------------------------------------------------------------


def test_a_healthy_revision_is_promoted_step_by_step(play, operator):
    old = play.begin()
    new = play.change()
    play.until(lambda _: play.root_selector().get("modelserver.dev/role"), "the router in the way")
    assert play.condition("Serving") == ("True", "Serving")
    assert play.condition("Ready")[0] == "Unknown"
    play.until_promoted(new)
    assert intended_weights(*written(operator, play)) == [0, 20, 100]
    assert play.condition("Ready") == ("True", "Serving")
    assert play.condition("Progressing") == ("False", "Complete")
    assert play.root_selector()["modelserver.dev/revision"] == new
    play.until_only(new)
    assert play.servers.child("ControllerRevision", f"chat-{old}") is not None


def test_every_phase_comes_in_its_order(play, operator):
    play.begin()
    play.until_promoted(play.change())
    seen = phases(*written(operator, play))
    order = ["Preparing", "Stepping", "Analyzing", "Stepping", "Analyzing", "Promoting"]
    assert seen[: len(order)] == order
    assert seen[-1] == "Succeeded"


def test_nothing_is_written_at_rest_after_a_rollout(play, operator):
    play.begin()
    new = play.change()
    play.until_promoted(new)
    play.until_only(new)
    play.servers.wait_settled("chat")
    before = play.servers.get("chat")["metadata"]["resourceVersion"]
    seen = len(operator.proxy.seen)
    play.servers.patch("chat", {"rollout": {"historyLimit": 3}})  # a look, and one report of it
    play.until(
        lambda status: (
            status["observedGeneration"] == play.servers.get("chat")["metadata"]["generation"]
        ),
        "a look",
    )
    written_after = operator.proxy.writes(seen, play.servers.namespace)
    assert [
        str(one.request) for one in written_after if one.request.resource != "modelservers"
    ] == []
    assert play.servers.get("chat")["metadata"]["resourceVersion"] != before


def test_the_first_revision_serves_as_soon_as_it_is_ready(play):
    first = play.begin()
    assert "rollout" not in play.status
    assert play.status["servingRevision"] == first


def test_blue_green_takes_over_at_once(play, operator):
    play.begin(
        {
            "strategy": "BlueGreen",
            "analysis": {"intervalSeconds": 2, "minSamples": 20},
            "bakeSeconds": 0,
        }
    )
    play.until_promoted(play.change())
    assert intended_weights(*written(operator, play)) == [0, 100]


def test_without_room_for_both_the_old_pods_end_first(play, operator):
    old = play.begin({"strategy": "HoldAndSwap", "analysis": ANALYSIS, "bakeSeconds": 0})
    new = play.change()
    play.until_promoted(new)
    seen = phases(*written(operator, play))
    assert [one for one in seen if one in {"Draining", "Swapping"}] == ["Draining", "Swapping"]
    assert seen[-1] == "Succeeded"
    play.until_only(new)
    assert old != new


def test_recreate_needs_no_router(play, operator):
    play.begin({"strategy": "Recreate"})
    new = play.change()
    play.until_promoted(new)
    made = {seen.request.name for seen in operator.proxy.writes(namespace=play.servers.namespace)}
    assert "chat-router" not in made


def test_the_last_step_waits_for_approval(play):
    play.begin(canary(approval="Manual"))
    new = play.change()
    play.until_holding("AwaitingApproval")
    assert play.obey("promote-step", new)["result"] == "Done"
    play.until_promoted(new)


def test_a_run_that_the_spec_pauses_goes_on_when_it_does_not(play):
    play.begin(canary(paused=True))
    new = play.change()
    play.until(lambda status: status.get("rollout", {}).get("paused"), "a pause")
    assert play.condition("Progressing") == ("True", "Paused")
    play.servers.patch("chat", {"rollout": {"paused": False}})
    play.until_promoted(new)


def test_a_golden_set_that_is_answered_as_expected_lets_it_go_on(play, operator):
    play.begin(canary(preflight=GOLDEN))
    play.until_promoted(play.change())
    assert "Preflight" in phases(*written(operator, play))


# -- the way back ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "reason"), [(WRONG, "ErrorRate"), (SLOW, "Latency")], ids=["errors", "slow"]
)
def test_a_failing_revision_is_rolled_back_and_not_tried_again(play, stage, behaviour, reason):
    old = play.begin()
    with stage.intermission():
        new = play.change()
        stage.traffic.behaviours[new] = behaviour
    play.until_rolled_back(old)
    failed = play.status["failedRevisions"]
    assert [(one["revision"], one["reason"]) for one in failed] == [(new, reason)]
    assert failed[0]["evidence"]
    assert play.condition("Ready") == ("True", "Serving")
    assert play.condition("Progressing") == ("False", "RolledBack")
    assert play.condition("Degraded") == ("True", "RolledBack")
    assert play.root_selector()["modelserver.dev/revision"] == old
    play.until_only(old)


def test_a_revision_that_answers_differently_is_stopped_before_it_answers_anybody(
    play, operator, stage
):
    old = play.begin(canary(shadow={"percent": 50, "holdSeconds": 0, "minPairs": 20}))
    with stage.intermission():
        new = play.change()
        stage.traffic.behaviours[new] = Behaviour(disagree_percent=60)
    play.until_rolled_back(old)
    assert play.status["failedRevisions"][0]["reason"] == "Disagreement"
    assert intended_weights(*written(operator, play)) == [0]


def test_a_golden_set_that_is_not_answered_as_expected_stops_it(play, operator, stage):
    old = play.begin(canary(preflight=GOLDEN))
    stage.traffic.preflight_failures["chat"] = 3
    play.change()
    play.until_rolled_back(old)
    failed = play.status["failedRevisions"][0]
    assert failed["reason"] == "PreflightFailed"
    assert "expected Paris, got Rome" in failed["evidence"]
    assert intended_weights(*written(operator, play)) == [0]


def test_counts_of_the_pods_themselves_decide_as_well(play, stage):
    old = play.begin(canary(analysis={**ANALYSIS, "source": "Pods"}))
    with stage.intermission():
        new = play.change()
        stage.traffic.behaviours[new] = WRONG
    play.until_rolled_back(old)
    assert play.status["failedRevisions"][0]["reason"] == "ErrorRate"


def test_a_revision_that_fails_while_the_old_pods_are_kept_goes_back_to_them(play, stage):
    old = play.begin(canary(bakeSeconds=3600))
    new = play.change()
    play.until_phase("Baking")
    assert play.status["servingRevision"] == new
    stage.traffic.behaviours[new] = WRONG
    play.until_rolled_back(old)
    assert play.status["failedRevisions"][0]["reason"] == "ErrorRate"
    play.until_only(old)


def test_a_failed_revision_is_tried_again_by_command(play, stage):
    old = play.begin()
    with stage.intermission():
        new = play.change()
        stage.traffic.behaviours[new] = WRONG
    play.until_rolled_back(old)
    stage.traffic.behaviours[new] = Behaviour()
    assert play.obey("retry", new)["result"] == "Done"
    play.until_promoted(new)
    assert play.status.get("failedRevisions", []) == []


def test_a_revision_whose_pods_crash_is_rolled_back(play, stage):
    old = play.begin()
    with stage.intermission():
        new = play.change()
        stage.direct(pod_outcomes.exiting(46, code="UnsupportedModel"), server="chat", revision=new)
    play.until_rolled_back(old)
    assert play.status["failedRevisions"][0]["reason"] == "PodsFailing"


def test_going_back_to_the_old_spec_is_no_failure(play):
    old = play.begin(HELD, runtime={"args": ["--first"]})
    play.change()
    play.until_phase("Analyzing")
    play.servers.patch("chat", {"runtime": {"args": ["--first"]}})
    play.until_only(old)
    play.servers.wait_settled("chat")
    assert "failedRevisions" not in play.status
    assert play.condition("Progressing") == ("False", "Complete")
    assert play.condition("Degraded") == ("", "")


def test_a_newer_spec_supersedes_the_run(play):
    old = play.begin(HELD)
    second = play.change()
    play.until_phase("Analyzing")
    third = play.change(runtime={"args": ["--third"]}, rollout=canary())
    assert len({old, second, third}) == 3
    play.until_promoted(third)
    assert "failedRevisions" not in play.status
    assert any("Superseded" in reason for reason in play.reasons_of_events())
    play.until_only(third)


def test_deleting_in_the_middle_leaves_nothing(play):
    play.begin(HELD)
    play.change()
    play.until_phase("Analyzing")
    play.servers.delete("chat")
    play.servers.wait_gone("chat")


# -- commands --------------------------------------------------------------------------------------


PHASES = ["Preparing", "Stepping", "Analyzing", "Promoting", "Baking"]


@pytest.mark.parametrize("phase", PHASES)
def test_abort_rolls_back_from_every_phase(play, phase):
    """The bake lasts, so that the run is not over whenever the command is read."""
    old = play.begin(canary(bakeSeconds=3600))
    new = play.change()
    play.until_phase(phase)
    assert play.obey("abort", new)["result"] == "Done"
    play.until_rolled_back(old)
    assert play.status["failedRevisions"][0]["reason"] == "Aborted"


@pytest.mark.parametrize("phase", PHASES)
def test_a_run_paused_in_any_phase_stays_and_a_resumed_one_goes_on(play, phase):
    play.begin(canary(bakeSeconds=20))
    new = play.change()
    play.until_phase(phase)
    assert play.obey("pause", new)["result"] == "Done"
    assert play.condition("Progressing") == ("True", "Paused")
    assert play.run["paused"]["by"] == "command"
    assert play.obey("resume", new)["result"] == "Done"
    play.until_promoted(new)


def test_promote_step_and_promote_full_need_no_evidence(play, stage):
    stage.traffic.idle.add("chat")
    play.begin(HELD)
    new = play.change()
    play.until_phase("Analyzing")
    assert play.obey("promote-full", new)["result"] == "Done"
    play.until_promoted(new)


def test_a_command_about_another_revision_is_refused_with_a_sentence(play):
    play.begin(HELD)
    new = play.change()
    play.until_phase("Analyzing")
    refused = play.obey("abort", "00000000")
    assert refused["result"] == "Refused"
    assert new in refused["message"]
    assert play.run["phase"] == "Analyzing"


def test_rollback_to_an_earlier_revision_and_back_to_the_spec(play):
    old = play.begin()
    new = play.change()
    play.until_promoted(new)
    assert play.obey("rollback-to", old)["result"] == "Done"
    play.until_promoted(old)
    assert play.status["rolledBackTo"]["revision"] == old
    assert play.status["targetRevision"] == new
    third = play.change(runtime={"args": ["--third"]})
    play.until_promoted(third)
    assert "rolledBackTo" not in play.status


# -- no decision is possible -----------------------------------------------------------------------


def test_without_room_it_waits_and_says_what_for(play, stage):
    play.begin()
    with stage.intermission():
        new = play.change()
        stage.direct(pod_outcomes.unschedulable(), server="chat", revision=new)
    holding = play.until_holding("NoCapacity")
    assert "nvidia.com/gpu" in holding["message"]
    assert play.condition("Progressing") == ("True", "Holding")
    assert play.condition("Serving") == ("True", "Serving")
    stage.direct(stage.traffic.outcome, server="chat", revision=new)
    play.until_promoted(new)


def test_without_requests_it_waits_for_them(play, stage):
    play.begin()
    stage.traffic.idle.add("chat")
    new = play.change()
    play.until_holding("TooFewRequests")
    stage.traffic.idle.discard("chat")
    play.until_promoted(new)


def test_without_answers_it_waits_for_them(play, stage):
    play.begin(HELD)
    new = play.change()
    play.until_phase("Analyzing")
    stage.traffic.silent.add("chat")
    play.until_holding("MetricsUnavailable")
    assert play.run["weights"]["intended"] == 20
    stage.traffic.silent.discard("chat")
    play.until(lambda status: "holding" not in status["rollout"], "answers")
    assert play.obey("promote-full", new)["result"] == "Done"
    play.until_promoted(new)


@pytest.mark.parametrize("source", ["Prometheus", "Istio"])
def test_without_a_prometheus_in_its_configuration_it_says_so(play, source):
    play.begin(canary(analysis={**ANALYSIS, "source": source}))
    new = play.change()
    holding = play.until_holding("MetricsUnavailable")
    assert "MODELSERVER_OPERATOR_PROMETHEUS_URL" in holding["message"]
    assert play.run["weights"]["intended"] == 20
    assert play.obey("promote-full", new)["result"] == "Done"
    play.until_promoted(new)


def test_traffic_waits_for_every_router_to_have_the_route(play, stage):
    play.begin()
    stage.traffic.deaf.add("chat")
    new = play.change()
    play.until_holding("RouteNotConfirmed")
    assert play.run["weights"].get("confirmed", 0) == 0
    stage.traffic.deaf.discard("chat")
    play.until_promoted(new)


def test_what_hits_both_revisions_rolls_nothing_back(play, stage):
    old = play.begin()
    with stage.intermission():
        new = play.change()
        stage.traffic.behaviours |= {old: WRONG, new: WRONG}
    play.until_promoted(new)


# -- operators come and go -------------------------------------------------------------------------


@pytest.mark.parametrize("phase", PHASES)
def test_an_operator_that_is_killed_in_a_phase_goes_on_where_it_was(play, operator, phase):
    play.begin(canary(bakeSeconds=2))
    new = play.change()
    play.until_phase(phase)
    operator.kill()
    operator.start()
    play.until_promoted(new)
    assert intended_weights(*written(operator, play)) == [0, 20, 100]


def test_an_operator_that_is_killed_while_it_rolls_back_ends_the_rollback(play, operator, stage):
    old = play.begin()
    with stage.intermission():
        new = play.change()
        stage.traffic.behaviours[new] = WRONG
    play.until_phase("RollingBack", "RolledBack")
    operator.kill()
    operator.start()
    play.until_rolled_back(old)
    assert play.status["failedRevisions"][0]["revision"] == new
