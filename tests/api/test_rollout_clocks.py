"""The operator's clock jumps in the middle of a rollout: days back, days forward, and between two.

Set forward, it is as if the operator had been away: holds and deadlines pass as absolute time says,
but nothing that requests must show is skipped. Set back, nothing lasts longer than its own time.
"""

from datetime import UTC, datetime, timedelta

import pytest

from support.processes import ShiftedClock
from support.rollouts import Play, canary, intended_weights

pytestmark = pytest.mark.rollouts

HOUR, DAY = 3600, 86_400
HELD = canary(
    steps=[
        {"weightPercent": 20, "holdSeconds": HOUR},
        {"weightPercent": 50, "holdSeconds": HOUR},
        {"weightPercent": 100, "holdSeconds": 0},
    ],
    stepDeadlineSeconds=7 * DAY,
    deadlineSeconds=30 * DAY,
)
PHASES = ["Preparing", "Stepping", "Analyzing", "Promoting", "Baking"]


@pytest.fixture
def clock(tmp_path):
    return ShiftedClock(tmp_path / "clock")


@pytest.fixture
def operator(make_operator, clock):
    return make_operator(clock=clock).start()


def time_of(text):
    return datetime.fromisoformat(text)


def test_a_jump_back_delays_nothing(play, operator, clock):
    """Everything that is stored lies a day in the future then; old pods end all the same."""
    play.begin(canary(bakeSeconds=2))
    for phase, days in zip(PHASES, (-1, -2, -3, -4, -5), strict=True):
        before = len(operator.proxy.seen)
        new = play.change()
        play.until_phase(phase, "Succeeded")
        clock.set(days * DAY)
        play.until_promoted(new)
        play.until_only(new)
        assert time_of(play.status["servingSince"]) < datetime.now(UTC) + (days + 1) * timedelta(1)
        assert before < len(operator.proxy.seen)
    weights = intended_weights(operator.proxy, play.servers.namespace)
    assert weights == [0, 20, 100] * len(PHASES)


def test_a_hold_begins_anew_when_the_clock_is_set_back_and_ends_by_its_own_time(play, clock):
    play.begin(HELD)
    new = play.change()
    play.until_phase("Analyzing")
    clock.set(-7 * DAY)
    latest = datetime.now(UTC) - timedelta(days=6)
    run = play.until(lambda status: is_before(status, latest), "times of the new clock")
    assert (run["phase"], run.get("stepIndex", 0)) == ("Analyzing", 0)
    clock.set(-7 * DAY + HOUR)
    play.until(lambda status: status["rollout"].get("stepIndex") == 1, "the second step")
    assert play.obey("promote-full", new)["result"] == "Done"
    play.until_promoted(new)


def is_before(status, latest):
    run = status["rollout"]
    return run if time_of(run["stepEnteredAt"]) < latest else None


def test_a_jump_forward_ends_one_hold_and_not_the_next(play, operator, clock):
    play.begin(HELD)
    new = play.change()
    play.until_phase("Analyzing")
    clock.set(HOUR)
    play.until(is_analyzing_second_step, "the second step held")
    counted = play.run["countedAt"]
    play.until(lambda status: status["rollout"]["countedAt"] > counted, "another count")
    assert play.run["weights"]["intended"] == 50
    assert intended_weights(operator.proxy, play.servers.namespace) == [0, 20, 50]
    clock.set(2 * HOUR)
    play.until_promoted(new)
    assert intended_weights(operator.proxy, play.servers.namespace) == [0, 20, 50, 100]


def is_analyzing_second_step(status):
    run = status["rollout"]
    return run["phase"] == "Analyzing" and run.get("stepIndex") == 1


def test_a_jump_forward_replaces_no_requests(play, stage, clock):
    play.begin(HELD)
    stage.traffic.idle.add("chat")
    new = play.change()
    play.until_phase("Analyzing")
    clock.set(HOUR)
    play.until_holding("TooFewRequests")
    assert play.run["weights"]["intended"] == 20
    stage.traffic.idle.discard("chat")
    play.until(lambda status: status["rollout"].get("stepIndex") == 1, "the second step")
    assert play.obey("abort", new)["result"] == "Done"


def test_a_jump_past_the_deadline_stops_below_half_of_the_traffic(play, clock):
    """As with an operator that was away for so long: nobody has looked, so somebody must."""
    play.begin(HELD)
    new = play.change()
    play.until_phase("Analyzing")
    clock.set(31 * DAY)
    play.until(lambda status: status["rollout"].get("paused"), "a pause")
    assert play.run["paused"]["by"] == "deadline"
    assert play.run["weights"]["intended"] == 20
    assert play.condition("Serving") == ("True", "Serving")
    assert play.obey("resume", new)["result"] == "Done"
    assert play.obey("promote-full", new)["result"] == "Done"
    play.until_promoted(new)


def test_an_operator_with_another_clock_takes_over(play, operator, clock):
    """It leads after a kill, a day behind the one that began."""
    assert isinstance(play, Play)
    play.begin(canary(bakeSeconds=2))
    new = play.change()
    play.until_phase("Analyzing", "Promoting", "Baking")
    operator.kill()
    clock.set(-DAY)
    operator.start()
    play.until_promoted(new)
    play.until_only(new)
