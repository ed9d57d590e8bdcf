"""Commands: done once, about one revision, answered in a sentence."""

import pytest

from modelserver_operator.apis.rollout import RolloutSpec, Step, Strategy
from modelserver_operator.apis.rollout_status import RolloutPhase as Phase
from support.rollout_world import FINISHED, A, B, C, World

STEPS = (
    Step(weight_percent=10, hold_seconds=30),
    Step(weight_percent=50, hold_seconds=30),
    Step(weight_percent=100, hold_seconds=0),
)
CANARY = RolloutSpec(strategy=Strategy.CANARY, steps=STEPS, bake_seconds=600)
GOING = [
    Phase.PREPARING,
    Phase.STEPPING,
    Phase.ANALYZING,
    Phase.PROMOTING,
    Phase.BAKING,
    Phase.SETTLING,
    Phase.ROLLING_BACK,
]


def at(phase: Phase, rules: RolloutSpec = CANARY) -> World:
    world = World(rules, target=B)
    world.look()
    if phase is Phase.ROLLING_BACK:
        world.until(Phase.ANALYZING).tell("abort", token="0")
        return world
    return world.until(phase)


def rolled_back() -> World:
    world = at(Phase.ANALYZING)
    world.tell("abort", token="0")
    return world.until(Phase.ROLLED_BACK)


@pytest.mark.parametrize("phase", GOING)
def test_abort_wins_in_every_phase(phase):
    world = at(phase)
    assert world.tell("abort").result == "Done"
    weights = [world.weight]
    for _ in range(30):
        world.beat()
        if world.phase in FINISHED:
            break
        weights.append(world.weight)
    assert weights == sorted(weights, reverse=True)
    assert (world.phase, world.status.serving_revision, world.root) == (Phase.ROLLED_BACK, A, A)
    assert world.status.failed_revisions[0].reason == "Aborted"
    assert world.lost == []


@pytest.mark.parametrize("pause", ["command", "spec"])
def test_abort_wins_over_a_pause(pause):
    world = at(Phase.ANALYZING)
    if pause == "spec":
        world.change(paused=True)
        world.look()
    else:
        world.tell("pause", token="p")
    assert world.run.paused.by == pause
    world.tell("abort")
    world.until(Phase.ROLLED_BACK)


def test_abort_wins_over_a_command_to_promote():
    world = at(Phase.ANALYZING)
    world.tell("promote-full", token="p")
    world.tell("abort")
    world.until(Phase.ROLLED_BACK)
    assert world.status.serving_revision == A


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.STEPPING, Phase.ANALYZING, Phase.BAKING])
def test_pause_stops_a_run_until_resume(phase):
    world = at(phase)
    assert world.tell("pause").result == "Done"
    for _ in range(5):
        world.beat(seconds=40_000)
    assert (world.phase, world.run.paused.by) == (phase, "command")
    assert world.tell("resume", token="2").result == "Done"
    world.until(Phase.SUCCEEDED)


def test_time_that_was_paused_counts_neither_as_held_nor_as_waited():
    world = at(Phase.ANALYZING)
    entered, deadline = world.run.step_entered_at, world.run.deadline
    world.tell("pause")
    world.pass_time(100_000)
    world.tell("resume", token="2")
    assert (world.phase, world.run.paused) == (Phase.ANALYZING, None)
    assert world.run.step_entered_at > entered
    assert world.run.deadline > deadline


@pytest.mark.parametrize("phase", [Phase.SETTLING, Phase.ROLLING_BACK])
def test_what_ends_by_itself_cannot_be_paused(phase):
    world = at(phase)
    answer = world.tell("pause")
    assert (answer.result, world.run.paused) == ("Refused", None)
    assert str(phase) in answer.message


def test_promote_step_ends_the_step_without_waiting_for_requests():
    world = at(Phase.ANALYZING)
    assert world.tell("promote-step").result == "Done"
    assert (world.phase, world.run.step_index) == (Phase.STEPPING, 1)
    world.until(Phase.ANALYZING, requests=0)
    assert world.weight == 50


def test_promote_step_after_the_last_step_ends_the_bake():
    world = at(Phase.BAKING)
    assert world.tell("promote-step").result == "Done"
    assert world.phase is Phase.SETTLING


def test_promote_step_is_refused_where_there_is_no_step():
    answer = at(Phase.PREPARING).tell("promote-step")
    assert answer.result == "Refused"
    assert "no step" in answer.message


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.STEPPING, Phase.ANALYZING, Phase.BAKING])
def test_promote_full_takes_over_without_a_single_request(phase):
    world = at(phase)
    assert world.tell("promote-full").result == "Done"
    world.until(Phase.SUCCEEDED, requests=0)
    assert (world.status.serving_revision, world.lost) == (B, [])


def test_promote_full_still_waits_for_pods():
    world = at(Phase.ANALYZING)
    world.no_room = {B}
    world.tell("promote-full")
    for _ in range(5):
        world.beat()
    assert world.status.serving_revision == A
    assert world.run.holding.reason == "NoCapacity"


def test_promote_full_does_not_carry_pods_that_cannot_run():
    world = at(Phase.ANALYZING)
    world.tell("promote-full")
    world.hard_failures = {B: "it ends with exit code 48"}
    world.until(Phase.ROLLED_BACK)


def test_a_pause_of_the_spec_is_ended_in_the_spec():
    world = at(Phase.ANALYZING)
    world.change(paused=True)
    world.look()
    for token, verb in enumerate(["resume", "promote-step", "promote-full"]):
        answer = world.tell(verb, token=str(token))
        assert answer.result == "Refused"
        assert "spec" in answer.message


def test_retry_tries_a_failed_revision_once_more():
    world = rolled_back()
    assert world.tell("retry").result == "Done"
    assert world.status.failed_revisions == ()
    world.until(Phase.SUCCEEDED)
    assert world.status.serving_revision == B


def test_a_command_is_done_once_however_often_it_is_seen():
    world = rolled_back()
    world.tell("retry")
    world.until(Phase.ANALYZING)
    world.command = f"abort/{B}/2"
    world.until(Phase.ROLLED_BACK)
    for _ in range(10):
        world.beat()
    assert world.phase is Phase.ROLLED_BACK
    assert world.status.last_command.token == f"abort/{B}/2"


def test_a_command_that_comes_late_hits_no_other_revision():
    world = at(Phase.ANALYZING)
    answer = world.tell("abort", C)
    assert (answer.result, world.phase) == ("Refused", Phase.ANALYZING)
    assert B in answer.message
    assert C in answer.message


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("abort", "<verb>/<revision>/<token>"),
        (f"abort/{B}", "<verb>/<revision>/<token>"),
        (f"abort/{B}/", "<verb>/<revision>/<token>"),
        (f"destroy/{B}/1", "there is no command destroy"),
        (f"retry/{C}/1", "not among status.failedRevisions"),
        ("rollback-to/99999999/1", f"kept are {A}, {B}, {C}"),
        ("x" * 5000, "<verb>/<revision>/<token>"),
    ],
)
def test_a_command_that_cannot_be_obeyed_is_refused_with_what_to_write(command, sentence):
    world = at(Phase.ANALYZING)
    world.command = command
    world.look()
    assert world.status.last_command.result == "Refused"
    assert sentence in world.status.last_command.message
    assert world.phase is Phase.ANALYZING


@pytest.mark.parametrize("verb", ["pause", "resume", "abort", "promote-step", "promote-full"])
def test_without_a_rollout_there_is_nothing_to_command(verb):
    world = World(CANARY)
    answer = world.tell(verb)
    assert (answer.result, answer.message) == (
        "Refused",
        f"there is no rollout that could be told to {verb}",
    )


# ---- rollback-to ---------------------------------------------------------------------------------


def test_rollback_to_goes_to_a_kept_revision_at_once_and_stays_there():
    world = at(Phase.SUCCEEDED)
    assert world.tell("rollback-to", A).result == "Done"
    world.until(Phase.PREPARING, Phase.STEPPING)
    world.until(Phase.SUCCEEDED)
    weights = {one.rollout.weights.intended for one in world.history if one.rollout.to == A}
    assert weights == {0, 100}
    for _ in range(5):
        world.beat()
    assert (world.status.serving_revision, world.lost) == (A, [])


def test_rollback_to_holds_until_the_spec_asks_for_something_else():
    world = at(Phase.SUCCEEDED)
    world.tell("rollback-to", A)
    world.look()
    world.until(Phase.SUCCEEDED)
    world.target = C
    world.look()
    assert world.status.rolled_back_to is None
    world.until(Phase.SUCCEEDED)
    assert world.status.serving_revision == C


def test_rollback_to_the_stable_revision_ends_a_running_rollout_without_blame():
    world = at(Phase.ANALYZING)
    world.tell("rollback-to", A)
    for _ in range(20):
        world.beat()
    assert (world.status.serving_revision, world.status.failed_revisions) == (A, ())
    assert world.status.rollout is None


def test_a_rollback_that_is_aborted_does_not_begin_again():
    world = at(Phase.SUCCEEDED)
    world.tell("rollback-to", A)
    world.look()
    world.until(Phase.STEPPING)
    world.tell("abort", A, token="2")
    for _ in range(30):
        world.beat()
    assert (world.phase, world.status.serving_revision) == (Phase.ROLLED_BACK, B)
