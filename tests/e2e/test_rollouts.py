"""What clients notice of rollouts, good and bad ones: no failure that stable would not have made.

Every scenario has a ModelServer, pods, built-in routers and 25 marked requests a second of its
own. They are played side by side; the tests look at what was seen.
"""

import itertools
import os
import sys
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from devcluster.demo import install
from e2e.rollout_play import Play
from e2e.rollout_scenarios import (
    STEPS,
    aborted,
    bereft,
    differing,
    examined,
    examined_in_vain,
    failing,
    healthy,
    of_real_runtime,
    slow,
    swapped,
    watched,
)
from e2e.rollout_verdicts import require_rolled_back, require_share, require_unnoticed
from e2e.stage import operator_pids
from support.terminal import terminal
from support.waiting import wait_until

pytestmark = pytest.mark.rollouts

UP_ONE_LINE = "\x1b[1A"
INTERRUPTED = 130  # the exit code after Ctrl-C, as shells say it
AT_ONCE = 2  # scenarios: two cores carry their pods and 25 requests a second for each


# -- stage -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(trained_claim):
    return {"model": {"uri": f"pvc://{trained_claim}"}, "replicas": 1}


@pytest.fixture(scope="module")
def perform(module_servers, watch):
    """Plays a scenario; gives the play, and what the scenario returned."""

    def perform(scenario, spec, *more):
        name = scenario.__name__.replace("_", "-")
        play = Play(servers=module_servers, watch=watch, name=name, spec=spec)
        returned = scenario(play, *more)
        return play, returned

    return perform


@pytest.fixture(scope="module")
def plays(request, perform, marked):
    """Futures of all scenarios that are asked for and may be played side by side."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = {}
        for scenario in scenarios_of(request.session.items):
            is_real = scenario is of_real_runtime
            spec = request.getfixturevalue("real") if is_real else marked
            futures[scenario] = pool.submit(perform, scenario, spec)
        yield futures


def scenarios_of(items):
    parameters = [item.callspec.params for item in items if hasattr(item, "callspec")]
    return list(dict.fromkeys(one["play"] for one in parameters if "play" in one))


@pytest.fixture
def play(request, plays):
    return plays[request.param].result()[0]


def played(*scenarios):
    return pytest.mark.parametrize("play", scenarios, indirect=True)


# -- what clients saw ------------------------------------------------------------------------------


@played(of_real_runtime, healthy)
def test_a_healthy_canary_takes_over_step_by_step(play, record):
    require_unnoticed(play, record)
    record("seconds_to_succeeded", play.seconds_of("Succeeded"))
    assert play.last.status["servingRevision"] == play.new
    assert set(play.traffic.revisions()) == {play.old, play.new}
    held = play.held_weights()
    assert [weight for weight, _, _ in held] == [step["weightPercent"] for step in STEPS]
    for weight, since, until in held:
        require_share(play, record, weight, play.traffic.through_router(since, until))


@played(failing)
def test_a_canary_that_fails_every_tenth_request_is_rolled_back(play, record):
    require_rolled_back(play, record, "ErrorRate")
    of_canary = play.traffic.failures()
    record("errors_of_the_canary_itself", len(of_canary))
    assert {answer.status for answer in of_canary} == {500}
    require_unnoticed(play, record, but_of=play.new)


@played(slow)
def test_a_canary_that_is_three_times_slower_is_rolled_back(play, record):
    require_rolled_back(play, record, "Latency")
    require_unnoticed(play, record)


@played(differing)
def test_a_canary_that_answers_differently_is_seen_by_no_client(play, record):
    require_rolled_back(play, record, "Disagreement", since="Shadowing")
    require_unnoticed(play, record)
    assert set(play.traffic.revisions()) == {play.old}
    assert not [answer for answer in play.traffic.answers if "other" in answer.text]
    assert {one.run["weights"]["intended"] for one in play.states() if "weights" in one.run} <= {0}


@played(swapped)
def test_a_swap_holds_requests_and_drops_none(play, record):
    record("longest_wait_seconds", round(max(a.seconds for a in play.traffic.answers), 1))
    require_unnoticed(play, record)
    assert set(play.traffic.revisions()) == {play.old, play.new}
    assert play.last.status["servingRevision"] == play.new
    assert any(one.run.get("isHoldingRequests") for one in play.states())


@played(aborted)
def test_blue_green_takes_over_at_once_and_is_aborted_by_annotation(play, record):
    require_unnoticed(play, record)
    weights = (one.run.get("weights", {}).get("intended", 0) for one in play.states())
    assert [weight for weight, _ in itertools.groupby(weights)] == [0, 100, 0]
    assert play.last.status["servingRevision"] == play.old
    assert play.last.status["failedRevisions"][0]["reason"] == "Aborted"
    assert play.last.status["lastCommand"]["result"] == "Done"


@played(examined)
def test_a_golden_set_that_is_answered_as_expected_lets_it_go_on(play, record):
    require_unnoticed(play, record)
    record("seconds_of_the_golden_set", round(play.entered("Stepping") - play.entered("Preflight")))
    assert play.last.status["servingRevision"] == play.new
    assert play.last.run["preflight"]["passed"] == 2
    assert not play.last.run["preflight"].get("failed")


@played(examined_in_vain)
def test_a_wrong_answer_to_the_golden_set_stops_it_before_any_client_is_answered(play, record):
    require_rolled_back(play, record, "PreflightFailed", since="Preflight")
    require_unnoticed(play, record)
    assert set(play.traffic.revisions()) == {play.old}
    said = play.last.run["preflight"]
    assert (said["passed"], said["failed"]) == (1, 1)
    assert "parts" in said["message"]
    assert "another goodbye" in said["message"]
    assert "greets" not in said["message"]


@pytest.fixture
def live_view(kubectl, namespace):
    """The live view of a server, on a terminal."""
    program = [sys.executable, "-m", "modelserver_cli", "status", "--watch"]
    places = ["--kubeconfig", kubectl.kubeconfig, "--namespace", namespace]
    return lambda name: terminal([*program, name, *places], os.environ)


def test_the_live_view_follows_a_rollout_to_its_end(plays, perform, marked, live_view, record):
    wait(plays.values())  # the view is to keep up with each step
    play, (code, written) = perform(watched, marked, live_view)
    require_unnoticed(play, record)
    assert code == INTERRUPTED
    assert "Ctrl-C ends this" in written
    assert UP_ONE_LINE in written, "no picture was drawn over the one before"
    assert play.new in written


def test_a_canary_ends_well_though_the_operator_is_killed(plays, perform, marked, kubectl, record):
    wait(plays.values())  # they want the operator alive
    play, killed = perform(bereft, marked, kubectl)
    assert killed, "no operator process is visible"
    require_unnoticed(play, record)
    record("seconds_to_succeeded", play.seconds_of("Succeeded"))
    weights = (one.run.get("weights", {}).get("intended", 0) for one in play.states())
    assert [weight for weight, _ in itertools.groupby(weights)] == [0, 10, 50, 100]
    assert play.last.status["servingRevision"] == play.new
    wait_until(lambda: len(operator_pids(kubectl)) == 2, timeout=120, what="two operators again")
    kubectl.run(
        "-n", install.NAMESPACE, "rollout", "status", f"deployment/{install.OPERATOR}",
        "--timeout=120s",
    )  # fmt: skip
