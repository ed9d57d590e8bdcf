"""Each phase of a rollout: what it waits for, in one sentence, and where it goes."""

from dataclasses import replace

import pytest

from modelserver_operator.apis.rollout import (
    Analysis,
    Approval,
    GoldenSet,
    OnFailure,
    OnTimeout,
    Preflight,
    QueryCheck,
    RolloutSpec,
    Shadow,
    Step,
    Strategy,
)
from modelserver_operator.apis.rollout_status import PreflightOutcome, Rollout
from modelserver_operator.apis.rollout_status import RolloutPhase as Phase
from modelserver_operator.apis.runtime import KeyReference
from modelserver_operator.apis.status import ModelServerStatus
from modelserver_operator.apis.traffic import Router
from modelserver_operator.rollout.clocks import parse
from modelserver_operator.rollout.machine import decide
from modelserver_operator.rollout.sight import CheckAnswer
from support.rollout_world import FINISHED, A, B, C, World

STEPS = (
    Step(weight_percent=10, hold_seconds=30),
    Step(weight_percent=50, hold_seconds=30),
    Step(weight_percent=100, hold_seconds=0),
)
CANARY = RolloutSpec(strategy=Strategy.CANARY, steps=STEPS, bake_seconds=60)
GOLDEN = Preflight(
    golden_set=GoldenSet(config_map_ref=KeyReference(name="golden", key="cases.jsonl")),
    min_pass_percent=90,
)


def world_of(rules: RolloutSpec = CANARY, **fields) -> World:
    """Revision A serves, and B is asked for."""
    return World(rules, target=B, **fields)


def with_rules(**fields) -> World:
    return world_of(CANARY.model_copy(update=fields))


# ---- the way forward -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "phases"),
    [
        ({}, "Preparing Stepping Analyzing Promoting Baking Settling Succeeded"),
        (
            {"strategy": Strategy.BLUE_GREEN},
            "Preparing Stepping Promoting Baking Settling Succeeded",
        ),
        ({"strategy": Strategy.RECREATE}, "Draining Swapping Settling Succeeded"),
        (
            {"strategy": Strategy.HOLD_AND_SWAP},
            "Preparing Draining Swapping Promoting Settling Succeeded",
        ),
        (
            {"shadow": Shadow()},
            "Preparing Shadowing Stepping Analyzing Promoting Baking Settling Succeeded",
        ),
        (
            {"preflight": GOLDEN},
            "Preparing Preflight Stepping Analyzing Promoting Baking Settling Succeeded",
        ),
    ],
)
def test_a_healthy_revision_goes_through_the_phases_of_its_strategy_and_serves(rules, phases):
    world = with_rules(**rules)
    world.preflight = PreflightOutcome(passed=10)
    world.until(*FINISHED)
    seen = list(dict.fromkeys(one.rollout.phase for one in world.history))
    assert " ".join(seen) == phases
    assert world.status.serving_revision == B
    if rules.get("strategy") is not Strategy.RECREATE:
        assert world.lost == []


def test_every_step_is_held_with_its_weight_and_none_is_left_out():
    world = world_of().until(*FINISHED)
    held = [
        (one.rollout.step_index, one.rollout.weights.confirmed)
        for one in world.history
        if one.rollout.phase is Phase.ANALYZING
    ]
    assert list(dict.fromkeys(held)) == [(0, 10), (1, 50), (2, 100)]


def test_the_status_says_who_serves_in_the_same_write_that_begins_to_bake():
    world = world_of().until(*FINISHED)
    for status in world.history:
        is_after = status.rollout.phase in {Phase.BAKING, Phase.SETTLING, Phase.SUCCEEDED}
        assert status.serving_revision == (B if is_after else A)


def test_the_service_moves_to_the_new_pods_only_after_the_commit():
    world = world_of()
    for _ in range(60):
        world.beat()
        if world.root == B:
            break
    assert world.status.serving_revision == B


def test_before_anything_has_served_there_is_nothing_to_compare_with():
    world = World(CANARY, target=B, status=ModelServerStatus())
    world.pods = {B: world.pods.get(B)} if B in world.pods else {}
    world.look()
    assert world.status.rollout is None


def test_a_first_revision_is_said_to_be_unexamined_when_it_is_ready():
    world = World(CANARY, target=A)
    world.status = ModelServerStatus()
    world.store(world.decide())
    assert world.events == ["ServesUnexamined"]


@pytest.mark.parametrize("target", [A, ""])
def test_nothing_begins_while_what_serves_is_what_is_wanted_or_nothing_is_known(target):
    world = World(CANARY, target=target)
    world.look()
    assert world.status.rollout is None


def test_rolling_is_left_to_its_own_rule():
    world = world_of(RolloutSpec())
    world.apply()
    world.store(world.decide())
    assert world.status.rollout is None
    assert world.effects() is None


def test_the_rules_of_a_run_are_those_with_which_it_began():
    world = world_of().until(Phase.ANALYZING)
    world.change(steps=(Step(weight_percent=100, hold_seconds=0),), strategy=Strategy.ROLLING)
    world.until(*FINISHED)
    weights = [one.rollout.weights.intended for one in world.history]
    assert list(dict.fromkeys(weights)) == [0, 10, 50, 100]


def test_what_only_a_running_run_needs_is_gone_when_it_is_over():
    run = world_of().until(*FINISHED).run
    assert (run.readings, run.spec, run.phase_deadline, run.deadline) == ((), None, None, None)
    assert all(gate.log_ratios == () for gate in run.gates)
    assert {one.revision for one in run.comparison} == {A, B}


# ---- what is waited for --------------------------------------------------------------------------


def no_room(world):
    world.no_room = {B}


def no_router(world):
    world.are_routers_stuck = True


def refused(world):
    world.refusal = "the host is taken"


def unanswered(world):
    world.unanswered = "no answer of Gateway gateways/public"


def no_metrics(world):
    world.metrics_unavailable = "no router answers"


def no_stable_pods(world):
    world.pods[A].ready = 0


WAITS = [
    # what is missing, from which phase on, reason, what the sentence must say
    (no_room, Phase.PREPARING, "NoCapacity", "0/3 nodes are available"),
    (no_router, Phase.PREPARING, "RouterNotReady", "0 of 2 are"),
    (refused, Phase.STEPPING, "RouteNotAccepted", "the host is taken"),
    (unanswered, Phase.STEPPING, "RouteNotConfirmed", "no answer of Gateway gateways/public"),
    (no_metrics, Phase.ANALYZING, "MetricsUnavailable", "no router answers"),
    (no_stable_pods, Phase.ANALYZING, "StableNotReady", A),
]


@pytest.mark.parametrize(("take_away", "phase", "reason", "sentence"), WAITS)
def test_what_is_missing_is_told_and_waited_for(take_away, phase, reason, sentence):
    world = world_of()
    world.look()
    world.until(phase)
    confirmed = world.run.weights.confirmed
    for _ in range(5):
        take_away(world)
        world.apply()
        world.store(world.decide())
        world.pass_time(15)
        if take_away is not no_stable_pods:
            world.start_pods()
    assert world.run.holding.reason == reason
    assert sentence in world.run.holding.message
    assert world.run.message == world.run.holding.message
    assert (world.phase, world.run.weights.confirmed) == (phase, confirmed)


def test_too_few_requests_hold_a_step_after_its_time_and_say_how_many_are_missing():
    world = world_of().until(Phase.ANALYZING)
    for _ in range(5):
        world.beat(requests=10)
    assert world.run.holding.reason == "TooFewRequests"
    assert "of at least 50 requests at this step" in world.run.holding.message
    assert world.run.step_index == 0
    since = world.run.holding.since
    world.beat(requests=10)
    assert world.run.holding.since == since
    world.until(Phase.BAKING)


def test_a_step_is_not_left_before_its_time_however_many_requests_come():
    world = world_of().until(Phase.ANALYZING)
    entered = parse(world.run.step_entered_at)
    world.until(Phase.STEPPING, requests=10_000, seconds=5)
    assert (parse(world.run.phase_since) - entered).total_seconds() >= 30


def test_missing_numbers_neither_promote_nor_roll_back():
    world = world_of().until(Phase.ANALYZING)
    world.metrics_unavailable = "no router answers"
    for _ in range(10):
        world.beat(seconds=300)
    assert (world.phase, world.weight) == (Phase.ANALYZING, 10)
    world.metrics_unavailable = ""
    world.until(Phase.SUCCEEDED)


@pytest.mark.parametrize(
    ("strategy", "router", "sentence"),
    [
        (Strategy.CANARY, Router.NONE, "spec.traffic.router is None"),
        (Strategy.HOLD_AND_SWAP, Router.NONE, "spec.traffic.router is None"),
        (Strategy.HOLD_AND_SWAP, Router.ISTIO, "set it to Gateway"),
    ],
)
def test_a_strategy_that_the_router_cannot_carry_out_waits_and_says_so(strategy, router, sentence):
    world = with_rules(strategy=strategy)
    world.router = router
    for _ in range(5):
        world.beat()
    assert (world.phase, world.run.holding.reason) == (Phase.PREPARING, "RouterNotReady")
    assert sentence in world.run.holding.message


def test_blue_green_needs_no_router():
    world = with_rules(strategy=Strategy.BLUE_GREEN)
    world.router = Router.NONE
    world.until(*FINISHED)
    assert (world.phase, world.root, world.lost) == (Phase.SUCCEEDED, B, [])


@pytest.mark.parametrize("router", [Router.GATEWAY, Router.ISTIO, Router.GATEWAY_API])
def test_a_route_that_is_refused_after_all_stops_the_step_until_it_is_taken(router):
    world = world_of(router=router)
    world.until(Phase.ANALYZING)
    world.refusal = "the listener is gone"
    for _ in range(5):
        world.beat()
    assert (world.phase, world.run.holding.reason) == (Phase.STEPPING, "RouteNotAccepted")
    assert "the listener is gone" in world.run.holding.message
    assert (world.run.weights.confirmed_at, world.weight) == (None, 10)
    world.refusal = ""
    world.until(Phase.ANALYZING)
    assert (world.weight, world.run.step_index) == (10, 0)


def test_without_a_router_nobody_can_refuse():
    world = with_rules(strategy=Strategy.BLUE_GREEN)
    world.router, world.refusal = Router.NONE, "nobody divides"
    world.until(*FINISHED)
    assert world.phase is Phase.SUCCEEDED


def test_the_last_step_waits_for_approval_as_long_as_it_takes():
    world = with_rules(approval=Approval.MANUAL)
    for _ in range(60):
        world.beat()
    assert world.run.holding.reason == "AwaitingApproval"
    assert f"promote-step/{B}" in world.run.holding.message
    world.pass_time(10 * 86_400)
    world.beat()
    assert (world.phase, world.weight) == (Phase.STEPPING, 50)
    assert world.tell("promote-step").result == "Done"
    world.until(*FINISHED)
    assert world.phase is Phase.SUCCEEDED


# ---- shadow and preflight ------------------------------------------------------------------------


def test_a_revision_that_answers_differently_gets_no_traffic():
    world = with_rules(shadow=Shadow())
    world.disagreement_percent = 30
    world.until(*FINISHED)
    assert (world.phase, world.run.reason) == (Phase.ROLLED_BACK, "Disagreement")
    assert all(one.rollout.weights.intended == 0 for one in world.history)


def test_copies_end_before_the_first_step():
    world = with_rules(shadow=Shadow()).until(Phase.ANALYZING)
    assert world.in_force.mirrored == ""
    assert world.run.mirror_percent == 0


def test_a_shadow_only_rollout_waits_for_the_command():
    world = with_rules(shadow=Shadow(only=True))
    for _ in range(30):
        world.beat()
    assert (world.phase, world.run.holding.reason) == (Phase.SHADOWING, "AwaitingApproval")
    assert world.tell("promote-step").result == "Done"
    world.until(*FINISHED)
    assert world.phase is Phase.SUCCEEDED


def test_another_router_compares_no_answers_and_that_is_said():
    world = with_rules(shadow=Shadow())
    world.router = Router.ISTIO
    world.until(Phase.SHADOWING)
    for _ in range(5):
        world.beat()
    assert (world.phase, world.run.holding.reason) == (Phase.SHADOWING, "RouterNotReady")
    assert "only the built-in router compares" in world.run.holding.message
    assert world.in_force.mirrored == B
    assert world.tell("promote-step").result == "Done"
    world.until(Phase.ANALYZING)
    assert world.in_force.mirrored == ""


@pytest.mark.parametrize(
    ("passed", "failed", "phase"), [(9, 1, Phase.STEPPING), (89, 11, Phase.ROLLING_BACK)]
)
def test_as_many_cases_of_the_golden_set_must_pass_as_the_spec_says(passed, failed, phase):
    world = with_rules(preflight=GOLDEN)
    world.preflight = PreflightOutcome(passed=passed, failed=failed, message="case 3: expected 4")
    world.until(phase)
    assert world.run.preflight.passed == passed
    if failed > 1:
        assert world.run.reason == "PreflightFailed"
        assert "89 of 100 cases" in world.run.evidence
        assert "case 3: expected 4" in world.run.evidence


def test_a_golden_set_that_could_not_be_asked_is_no_failure():
    world = with_rules(preflight=GOLDEN)
    world.preflight_failure = "ConfigMap golden is not there"
    world.until(Phase.PREFLIGHT)
    world.beat()
    assert world.run.holding.reason == "PreflightUnanswered"
    assert "ConfigMap golden is not there" in world.run.holding.message


# ---- checks --------------------------------------------------------------------------------------

CHECKED = Analysis(queries=(QueryCheck(name="cost", query="up", max="1", min_requests=100),))


@pytest.mark.parametrize(
    ("checks", "reason"),
    [
        (None, "CheckUnanswered"),
        ((), "CheckUnanswered"),
        ((CheckAnswer(name="cost", passed=None, message="no data"),), "CheckUnanswered"),
        ((CheckAnswer(name="cost", passed=False, message="2 is above 1"),), "CheckFailing"),
    ],
)
def test_a_check_holds_the_step_until_it_passes(checks, reason):
    world = with_rules(analysis=CHECKED).until(Phase.ANALYZING)
    world.ask(2000)
    world.look()
    world.checks = checks
    world.look()
    assert world.run.holding.reason == reason
    world.checks = (CheckAnswer(name="cost", passed=True),)
    world.until(Phase.SUCCEEDED)


def test_a_check_that_fails_twice_rolls_back_with_what_it_said():
    world = with_rules(analysis=CHECKED).until(Phase.ANALYZING)
    world.checks = (CheckAnswer(name="cost", passed=False, message="2 is above 1"),)
    world.until(*FINISHED)
    assert world.run.reason == "CheckFailed"
    assert "cost: 2 is above 1" in world.run.evidence


def test_a_mistake_in_a_query_can_be_corrected_while_the_run_waits_for_it():
    world = with_rules(analysis=CHECKED).until(Phase.ANALYZING)
    world.beat()
    world.change(analysis=Analysis())
    world.until(*FINISHED)
    assert world.phase is Phase.SUCCEEDED


# ---- failures ------------------------------------------------------------------------------------


def test_a_revision_that_fails_requests_is_rolled_back_with_the_numbers():
    world = world_of()
    world.bad_percent = {B: 10}
    world.until(*FINISHED)
    failed = world.status.failed_revisions[0]
    assert (failed.revision, failed.reason) == (B, "ErrorRate")
    assert "requests failed against 0 of" in failed.evidence
    assert (world.status.serving_revision, world.root) == (A, A)
    assert world.lost == []


def test_an_incident_that_hits_both_revisions_is_no_reason_to_go_back():
    world = world_of()
    world.bad_percent = {A: 20, B: 20}
    world.until(*FINISHED)
    assert world.phase is Phase.SUCCEEDED


def test_a_failed_revision_is_not_tried_again_by_itself():
    world = world_of()
    world.bad_percent = {B: 10}
    world.until(Phase.ROLLED_BACK)
    for _ in range(10):
        world.beat()
    assert world.phase is Phase.ROLLED_BACK
    assert {one for one, pods in world.pods.items() if pods.wanted} == {A}


def test_a_failed_revision_is_tried_again_when_its_fix_has_been_asked_for_meanwhile():
    """A → B fails → C serves → B is asked for again: it still needs the command."""
    world = world_of()
    world.hard_failures = {B: "it ends with exit code 46"}
    world.until(Phase.ROLLED_BACK)
    world.target = C
    world.until(Phase.SUCCEEDED)
    world.target = B
    for _ in range(10):
        world.beat()
    assert world.status.serving_revision == C
    world.hard_failures = {}
    assert world.tell("retry", B).result == "Done"
    world.until(Phase.SUCCEEDED)
    assert world.status.serving_revision == B


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.STEPPING, Phase.ANALYZING, Phase.BAKING])
def test_pods_that_cannot_run_end_the_run_in_every_phase(phase):
    world = world_of()
    world.look()
    world.until(phase)
    world.hard_failures = {B: "it ends with exit code 46: the architecture is unknown"}
    world.until(Phase.ROLLED_BACK)
    assert world.status.failed_revisions[0].reason == "PodsFailing"
    assert "exit code 46" in world.status.failed_revisions[0].evidence
    assert world.status.serving_revision == A


def test_with_both_revisions_down_there_is_nowhere_to_go():
    world = world_of().until(Phase.ANALYZING)
    world.hard_failures = {A: "it crashes", B: "it crashes"}
    world.start_pods()
    for _ in range(10):
        world.look()
        world.pass_time(15)
    assert (world.phase, world.weight) == (Phase.ANALYZING, 10)
    assert world.run.holding.reason == "StableNotReady"


def test_a_revision_without_a_ready_pod_gives_its_traffic_back_until_it_has_one():
    world = world_of().until(Phase.ANALYZING)
    world.pods[B].ready = 0
    world.look()
    assert (world.phase, world.weight, world.run.step_index) == (Phase.STEPPING, 0, 0)
    world.until(*FINISHED)
    assert (world.phase, world.lost) == (Phase.SUCCEEDED, [])


def test_a_revision_that_dies_while_it_bakes_makes_way_for_the_old_one():
    world = world_of().until(Phase.BAKING)
    for _ in range(8):
        world.look()
        world.pods[B].ready = 0
        world.pass_time(6)
    assert world.phase is Phase.ROLLING_BACK
    world.until(Phase.ROLLED_BACK)
    assert (world.status.serving_revision, world.root) == (A, A)


def test_a_revision_that_turns_bad_while_it_bakes_is_rolled_back():
    world = with_rules(bake_seconds=3600).until(Phase.BAKING)
    world.bad_percent = {B: 30}
    world.until(Phase.ROLLED_BACK)
    assert world.status.failed_revisions[0].reason == "ErrorRate"
    assert world.lost == []


def test_a_user_who_wants_to_look_first_gets_a_pause_instead_of_a_rollback():
    world = with_rules(on_failure=OnFailure.PAUSE)
    world.bad_percent = {B: 20}
    for _ in range(60):
        world.beat()
    assert (world.run.paused.by, world.run.reason) == ("failure", "ErrorRate")
    world.bad_percent = {}
    assert world.tell("resume").result == "Done"
    world.until(*FINISHED)
    assert world.phase is Phase.SUCCEEDED


# ---- deadlines -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "step", "outcome"),
    [
        (OnTimeout.AUTO, 0, "deadline"),
        (OnTimeout.AUTO, 1, Phase.ROLLED_BACK),
        (OnTimeout.PAUSE, 1, "deadline"),
        (OnTimeout.ROLLBACK, 0, Phase.ROLLED_BACK),
    ],
)
def test_a_deadline_pauses_below_half_of_the_traffic_and_rolls_back_from_there(rule, step, outcome):
    world = with_rules(on_timeout=rule, step_deadline_seconds=600)
    for _ in range(60):
        if world.status.rollout and world.phase is Phase.ANALYZING and world.run.step_index == step:
            break
        world.beat()
    for _ in range(18):
        world.beat(requests=1, seconds=60)
    if outcome is Phase.ROLLED_BACK:
        world.until(outcome)
        assert world.status.failed_revisions[0].reason == "Timeout"
        assert "phase Analyzing" in world.status.failed_revisions[0].evidence
    else:
        assert (world.phase, world.run.paused.by) == (Phase.ANALYZING, outcome)


def test_a_run_that_was_paused_by_a_deadline_has_all_of_its_time_again_when_resumed():
    world = with_rules(step_deadline_seconds=600).until(Phase.ANALYZING)
    for _ in range(18):
        world.beat(requests=1, seconds=60)
    assert world.run.paused.by == "deadline"
    world.tell("resume")
    for _ in range(5):
        world.beat(requests=1, seconds=60)
    assert world.run.paused is None
    world.until(*FINISHED)
    assert world.phase is Phase.SUCCEEDED


# ---- pauses and clocks ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "phase",
    [Phase.PREPARING, Phase.SHADOWING, Phase.STEPPING, Phase.ANALYZING, Phase.PROMOTING],
)
def test_a_paused_run_stays_where_it_is_and_goes_on_afterwards(phase):
    world = with_rules(shadow=Shadow())
    world.look()
    world.until(phase)
    world.change(paused=True)
    world.look()
    before = (world.phase, world.weight, world.run.step_index)
    for _ in range(5):
        world.beat(seconds=90_000)
    assert (world.phase, world.weight, world.run.step_index) == before
    assert world.run.paused.by == "spec"
    world.change(paused=False)
    world.until(*FINISHED)
    assert world.phase is Phase.SUCCEEDED


def test_a_revision_that_fails_is_rolled_back_though_its_run_is_paused():
    world = world_of().until(Phase.ANALYZING)
    world.change(paused=True)
    world.bad_percent = {B: 50}
    world.until(Phase.ROLLED_BACK)
    assert world.status.serving_revision == A


def test_a_suspended_server_waits_with_its_rollout():
    world = world_of().until(Phase.ANALYZING)
    world.replicas = 0
    for _ in range(20):
        world.beat(requests=0, seconds=3600)
    assert (world.phase, world.run.paused.by) == (Phase.ANALYZING, "suspend")
    assert all(pods.wanted == 0 for pods in world.pods.values())
    world.replicas = 4
    world.until(*FINISHED)
    assert world.phase is Phase.SUCCEEDED


def test_more_replicas_in_the_middle_of_a_run_are_for_both_revisions():
    world = world_of()
    world.until(Phase.ANALYZING)
    world.replicas = 20
    world.look()
    effects = world.effects()
    assert effects.replicas == {A: 20, B: 2}
    world.until(*FINISHED)
    assert world.pods[B].ready == 20


def test_a_server_that_is_being_deleted_is_left_alone():
    world = world_of().until(Phase.ANALYZING)
    wish = replace(world.wish, is_being_deleted=True)
    assert decide(world.status, world.sight(), wish).status == world.status


def test_a_clock_that_is_set_back_does_not_hold_a_step_for_longer_than_its_time():
    world = world_of().until(Phase.ANALYZING)
    world.pass_time(-86_400)
    began = world.now
    world.until(Phase.STEPPING)
    assert (world.now - began).total_seconds() <= 30 + 15 + 15
    world.until(*FINISHED)
    assert world.phase is Phase.SUCCEEDED


@pytest.mark.parametrize("days", [1, 400])
def test_a_clock_that_is_set_back_delays_no_rollback_of_what_has_no_ready_pod(days):
    world = with_rules(bake_seconds=36_000).until(Phase.BAKING)
    world.beat()
    world.hard_failures[B] = ""  # its pods are not ready, and nobody says why
    world.beat(seconds=2)
    world.look()
    assert world.run.unready_since
    world.pass_time(-86_400 * days)
    for _ in range(5):
        world.beat(seconds=15)
    assert world.run.reason == "PodsNotReady"


def test_a_clock_that_is_set_back_does_not_let_a_check_fail_for_ever():
    query = QueryCheck(name="queue", query="depth", max="1")
    world = with_rules(analysis=Analysis(queries=(query,)))
    world.checks = (CheckAnswer(name="queue", passed=False, message="the result is 7"),)
    world.until(Phase.ANALYZING)
    while world.run.holding is None or world.run.holding.reason != "CheckFailing":
        world.beat()
    world.pass_time(-86_400)
    for _ in range(5):
        world.beat()
    assert world.run.reason == "CheckFailed"


def test_the_next_change_does_not_wait_for_a_clock_that_was_set_back():
    world = world_of().until(Phase.SUCCEEDED)
    world.pass_time(-86_400)
    world.look()
    assert parse(world.status.serving_since) <= world.now
    world.target = C
    world.until(Phase.PREPARING, Phase.STEPPING, beats=5)


def test_a_clock_that_is_set_forward_lets_no_step_pass_without_its_requests():
    world = world_of().until(Phase.ANALYZING)
    world.pass_time(3000)
    world.look()
    for _ in range(5):
        world.beat(requests=1, seconds=1)
    assert (world.phase, world.run.step_index) == (Phase.ANALYZING, 0)


# ---- another target ------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.STEPPING, Phase.ANALYZING, Phase.BAKING])
def test_a_spec_that_is_reverted_goes_back_to_pods_that_still_run(phase):
    world = world_of()
    world.look()
    world.until(phase)
    world.target = A
    for _ in range(20):
        world.beat()
    assert (world.status.serving_revision, world.root, world.lost) == (A, A, [])
    assert world.status.failed_revisions == ()
    assert world.status.rollout is None
    world.target = B
    world.until(Phase.SUCCEEDED)


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.STEPPING, Phase.ANALYZING, Phase.BAKING])
def test_the_newest_spec_wins_and_weight_goes_back_first(phase):
    world = world_of()
    world.look()
    world.until(phase)
    world.target = C
    world.until(Phase.SUCCEEDED)
    assert world.status.serving_revision == C
    assert "RolloutSuperseded" in world.events
    assert (world.lost, world.status.failed_revisions) == ([], ())
    first = next(one.rollout for one in world.history if one.rollout.to == C)
    assert (first.phase, first.weights.intended, first.weights.confirmed) == (Phase.PREPARING, 0, 0)
    assert first.from_ == (B if phase is Phase.BAKING else A)


def test_a_broken_revision_does_not_block_its_fix():
    world = world_of().until(Phase.ANALYZING)
    world.hard_failures = {B: "it crashes"}
    world.start_pods()
    world.target = C
    world.until(Phase.SUCCEEDED)
    assert world.status.serving_revision == C


@pytest.mark.parametrize("phase", [Phase.DRAINING, Phase.SWAPPING])
def test_a_swap_turns_to_the_newest_revision_without_going_back(phase):
    world = with_rules(strategy=Strategy.HOLD_AND_SWAP).until(phase)
    world.target = C
    world.until(Phase.SUCCEEDED)
    assert (world.status.serving_revision, world.lost) == (C, [])
    assert all(one.serving_revision in {A, C} for one in world.history)


@pytest.mark.parametrize(
    ("strategy", "phase"),
    [
        (Strategy.HOLD_AND_SWAP, Phase.PREPARING),
        (Strategy.HOLD_AND_SWAP, Phase.DRAINING),
        (Strategy.HOLD_AND_SWAP, Phase.SWAPPING),
        (Strategy.HOLD_AND_SWAP, Phase.PROMOTING),
        (Strategy.RECREATE, Phase.DRAINING),
        (Strategy.RECREATE, Phase.SWAPPING),
    ],
)
def test_a_swap_goes_back_from_anywhere(strategy, phase):
    world = with_rules(strategy=strategy)
    world.look()
    world.until(phase)
    world.target = A
    for _ in range(30):
        world.beat()
    assert (world.status.serving_revision, world.root) == (A, A)
    assert (world.pods[A].ready, world.status.rollout) == (4, None)
    if strategy is Strategy.HOLD_AND_SWAP:
        assert world.lost == []


def test_auto_without_anything_to_examine_swaps_where_there_is_no_room_for_both():
    world = world_of(RolloutSpec())
    world.no_room = {B}
    world.apply()
    world.status = world.status.model_copy(update={"rollout": a_rolling_rollout()})
    world.pods[B] = world.pods[A]
    world.pass_time(170)
    world.store(world.decide())
    assert world.run.strategy is None
    world.pass_time(20)
    world.store(world.decide())
    assert world.run.strategy is Strategy.HOLD_AND_SWAP


def a_rolling_rollout() -> Rollout:
    return Rollout.model_validate(
        {"from": A, "to": B, "phase": Phase.STARTING, "start_time": "2026-08-24T10:00:00Z"}
    )


# ---- routers -------------------------------------------------------------------------------------


def test_the_service_leads_past_a_router_that_is_down_and_back_to_it_later():
    world = world_of().until(Phase.ANALYZING)
    world.routers_ready = 0
    world.look()
    world.look()
    assert (world.is_root_routed, world.root) == (False, A)
    world.until(*FINISHED)
    assert (world.phase, world.lost) == (Phase.SUCCEEDED, [])


def test_a_rollback_does_not_wait_for_a_router_that_is_down():
    world = with_rules(bake_seconds=3600).until(Phase.BAKING)
    world.hard_failures = {B: "it crashes"}
    world.are_routers_stuck = True
    for _ in range(10):
        world.look()
        world.routers_ready = 0
        world.pass_time(10)
    assert (world.phase, world.root) == (Phase.ROLLED_BACK, A)
