"""Whole rollouts whose traffic somebody else divides; who carries the routes out is played."""

import pytest

from support.played_controller import RouteController
from support.played_traffic import Behaviour
from support.rollouts import canary, intended_weights

pytestmark = pytest.mark.rollouts

ROUTERS = {
    "Istio": {"router": "Istio"},
    "GatewayAPI": {"router": "GatewayAPI", "gateways": ["public"]},
    "mesh": {"router": "GatewayAPI"},
}
WRONG = Behaviour(error_percent=20)
REFUSAL = "NotAllowedByListeners"


@pytest.fixture(params=ROUTERS)
def traffic(request):
    return ROUTERS[request.param]


@pytest.fixture
def controller(servers, stage):
    with RouteController(servers, stage.traffic) as played:
        yield played


def is_judged_later(traffic):
    """Istio takes every route at once, and says afterwards what is wrong with it."""
    return traffic["router"] == "Istio"


def in_force(stage):
    """Revisions that clients meet."""
    return {name for name, weight in stage.traffic.shares["chat"].items() if weight}


def test_a_healthy_revision_is_promoted_step_by_step(play, operator, stage, controller, traffic):
    play.begin(traffic=traffic)
    new = play.change()
    play.until_promoted(new)
    assert intended_weights(operator.proxy, play.servers.namespace) == [0, 20, 100]
    play.until_only(new)
    play.until(lambda _: in_force(stage) == {new}, "the route at rest")
    assert play.servers.child("Deployment", "chat-router") is None
    assert controller.answered


def test_a_failing_revision_is_rolled_back(play, stage, controller, traffic):
    old = play.begin(traffic=traffic)
    with stage.intermission():
        new = play.change()
        stage.traffic.behaviours[new] = WRONG
    play.until_rolled_back(old)
    assert play.status["failedRevisions"][0]["reason"] == "ErrorRate"
    play.until_only(old)
    play.until(lambda _: in_force(stage) == {old}, "the route at rest")
    assert new not in stage.traffic.shares["chat"]


def test_a_route_that_is_refused_moves_no_traffic_until_it_is_taken(
    play, operator, stage, controller, traffic
):
    old = play.begin(canary(bakeSeconds=1), traffic=traffic)
    routes = 2 if "gateways" in traffic else 1  # from outside, and from inside
    play.until(lambda _: controller.has_judged(routes), "the routes of the first revision")
    controller.refusal = REFUSAL
    new = play.change()
    holding = play.until_holding("RouteNotAccepted")
    assert REFUSAL in holding["message"]
    assert "confirmedAt" not in play.run["weights"]
    assert play.run["weights"]["intended"] == 20
    assert play.run["weights"].get("confirmed", 0) == (20 if is_judged_later(traffic) else 0)
    assert play.condition("Progressing") == ("True", "Holding")
    assert play.condition("Serving") == ("True", "Serving")
    assert in_force(stage) == {old}
    controller.refusal = ""
    play.until_promoted(new)
    assert intended_weights(operator.proxy, play.servers.namespace) == [0, 20, 100]


def test_a_route_that_is_refused_at_a_step_can_be_given_up(play, stage, controller, traffic):
    rollout = canary(steps=[{"weightPercent": 20, "holdSeconds": 3600}, {"weightPercent": 100}])
    old = play.begin(rollout, traffic=traffic)
    new = play.change()
    play.until_phase("Analyzing")
    routes = 2 if "gateways" in traffic else 1
    play.until(lambda _: controller.has_judged(routes), "the routes of the step")
    assert in_force(stage) == {old, new}
    controller.refusal = REFUSAL
    assert play.obey("promote-step", new)["result"] == "Done"
    play.until_holding("RouteNotAccepted")
    assert play.run["weights"]["intended"] == 100
    assert "confirmedAt" not in play.run["weights"]
    assert play.status["servingRevision"] == old
    assert play.obey("abort", new)["result"] == "Done"
    controller.refusal = ""
    play.until_rolled_back(old)
    assert play.status["failedRevisions"][0]["reason"] == "Aborted"


def test_a_step_waits_for_a_controller_that_does_not_answer(play, stage, controller):
    play.begin(traffic=ROUTERS["GatewayAPI"])
    play.until(lambda _: controller.has_judged(2), "the routes of the first revision")
    controller.is_away = True
    new = play.change()
    play.until_holding("RouteNotConfirmed")
    assert play.run["weights"] == {"intended": 20, "confirmed": 0}
    controller.is_away = False
    play.until_promoted(new)


def test_copies_that_nobody_compares_wait_for_somebody_to_look(play, stage, controller, traffic):
    shadow = {"percent": 50, "holdSeconds": 0, "minPairs": 20}
    play.begin(canary(shadow=shadow), traffic=traffic)
    new = play.change()
    holding = play.until_holding("RouterNotReady")
    assert "only the built-in router compares" in holding["message"]
    assert play.run["mirrorPercent"] == 50
    assert play.obey("promote-step", new)["result"] == "Done"
    play.until_promoted(new)


def test_without_a_router_blue_green_takes_over_and_a_canary_waits(play, operator):
    once = canary(strategy="BlueGreen", bakeSeconds=2) | {"steps": []}
    play.begin(once, traffic={"router": "None"})
    new = play.change()
    play.until_promoted(new)
    assert intended_weights(operator.proxy, play.servers.namespace) == [0, 100]
    assert play.root_selector()["modelserver.dev/revision"] == new
    play.servers.patch("chat", {"rollout": canary()})
    newer = play.change()
    holding = play.until_holding("RouterNotReady")
    assert "spec.traffic.router is None" in holding["message"]
    assert play.status["servingRevision"] == new != newer
