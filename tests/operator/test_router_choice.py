"""Which router is chosen, and the sentence that says what is missing."""

import json

import pytest

from modelserver_operator.apis.rollout import RolloutSpec
from modelserver_operator.apis.traffic import Router
from modelserver_operator.resources.kinds import DESTINATION_RULE, HTTP_ROUTE, VIRTUAL_SERVICE
from modelserver_operator.resources.router_choice import Capabilities, experiment_problem, router_of
from support.routes import CANARY, a_traffic

ISTIO = frozenset({DESTINATION_RULE, VIRTUAL_SERVICE})
GATEWAY_API = frozenset({HTTP_ROUTE})
BOTH = ISTIO | GATEWAY_API
NONE = frozenset()
OUTSIDE = {"gateways": ["public"]}


def choice(traffic=None, rollout=None, kinds=BOTH, outdated=None):
    spec = None if rollout is None else RolloutSpec.model_validate_json(json.dumps(rollout))
    capabilities = Capabilities(kinds=frozenset(kinds), outdated=outdated or {})
    return router_of(a_traffic(**traffic or {}), spec, capabilities)


AUTOMATIC = [
    ({}, BOTH, Router.GATEWAY),
    ({"hosts": ["chat.example.com"]}, BOTH, Router.GATEWAY),
    (OUTSIDE, BOTH, Router.ISTIO),
    (OUTSIDE, ISTIO, Router.ISTIO),
    (OUTSIDE, GATEWAY_API, Router.GATEWAY_API),
    (OUTSIDE, GATEWAY_API | {VIRTUAL_SERVICE}, Router.GATEWAY_API),
    (OUTSIDE, NONE, Router.GATEWAY),
]


@pytest.mark.parametrize(("traffic", "kinds", "router"), AUTOMATIC)
def test_auto_takes_what_the_cluster_has(traffic, kinds, router):
    found = choice(traffic, kinds=kinds)
    assert found.router is router
    assert found.is_possible
    assert found.message


def test_gateways_that_nobody_can_be_told_of_are_not_passed_over_in_silence():
    found = choice(OUTSIDE, kinds=NONE)
    assert found.reason == "NotFound"
    assert "gateways is given, but nobody in the cluster can be told of it" in found.message
    assert "no DestinationRule of networking.istio.io/v1" in found.message
    assert "no HTTPRoute of gateway.networking.k8s.io/v1" in found.message


@pytest.mark.parametrize("router", Router)
def test_a_router_that_is_named_is_taken(router):
    expected = Router.GATEWAY if router is Router.AUTO else router
    found = choice({"router": str(router)})
    assert (found.router, found.is_possible) == (expected, True)


MISSING = [
    ("Istio", GATEWAY_API, "no DestinationRule of networking.istio.io/v1. Install Istio"),
    ("Istio", {DESTINATION_RULE}, "no VirtualService of networking.istio.io/v1. Install Istio"),
    ("GatewayAPI", ISTIO, "no HTTPRoute of gateway.networking.k8s.io/v1. Install the Gateway API"),
]


@pytest.mark.parametrize(("router", "kinds", "words"), MISSING)
def test_a_router_that_the_cluster_lacks_is_said_to_be_missing(router, kinds, words):
    found = choice({"router": router}, kinds=kinds)
    assert (found.router, found.reason) == (Router(router), "RouterMissing")
    assert not found.is_possible
    assert words in found.problem
    assert "or set router to Gateway" in found.problem


def test_a_definition_that_is_too_old_is_said_to_be():
    found = choice(
        {"router": "GatewayAPI"}, kinds=ISTIO, outdated={HTTP_ROUTE: "spec.rules.timeouts"}
    )
    assert "HTTPRoute of gateway.networking.k8s.io/v1 is too old" in found.problem
    assert "no spec.rules.timeouts" in found.problem


def tried(**match):
    return {"experiments": [{"name": "beta", "match": match, "revision": CANARY}]}


BY_HEADER = tried(header={"name": "a", "value": "b"})
BEYOND = [
    ({"sticky": {"cookie": "c"}}, None, "spec.traffic.sticky"),
    ({}, {"strategy": "HoldAndSwap"}, "spec.rollout.strategy HoldAndSwap"),
]


@pytest.mark.parametrize("router", ["Istio", "GatewayAPI"])
@pytest.mark.parametrize(("traffic", "rollout", "words"), BEYOND)
def test_what_only_the_built_in_router_can_do_is_refused_of_others(router, traffic, rollout, words):
    found = choice({"router": router, **traffic}, rollout)
    assert (found.reason, found.is_possible) == ("RouterCannot", False)
    assert words in found.problem
    assert choice({"router": "Gateway", **traffic}, rollout).is_possible


@pytest.mark.parametrize("router", ["Istio", "GatewayAPI"])
def test_headers_and_steps_can_be_done_by_all(router):
    assert choice({"router": router, **BY_HEADER}, {"strategy": "Canary"}).is_possible


EXPERIMENTS = [
    ("Gateway", {"userKeyPercent": 5}, ""),
    ("Istio", {"userKeyPercent": 5}, "match.userKeyPercent cannot be done by router Istio"),
    ("GatewayAPI", {"userKeyPercent": 5}, "match.userKeyPercent cannot be done by router Gate"),
    ("Istio", {"cookie": {"name": "a", "value": "b"}}, ""),
    ("GatewayAPI", {"header": {"name": "a", "value": "b"}}, ""),
    ("None", {"header": {"name": "a", "value": "b"}}, "spec.traffic.router is None"),
]


@pytest.mark.parametrize(("router", "match", "words"), EXPERIMENTS)
def test_what_an_experiment_cannot_have_leaves_the_rest_alone(router, match, words):
    traffic = {"router": router, **tried(**match)}
    found = choice(traffic)
    assert found.is_possible
    [experiment] = a_traffic(**traffic).experiments
    reason, problem = experiment_problem(found, experiment)
    assert problem.startswith(words)
    assert (reason == "RouterCannot") == bool(words)


def test_an_experiment_waits_for_the_router_that_is_asked_for():
    found = choice({"router": "Istio", **BY_HEADER}, kinds=frozenset())
    [experiment] = a_traffic(**BY_HEADER).experiments
    assert experiment_problem(found, experiment) == ("RouterMissing", found.problem)


NOBODY = [
    ({}, {"steps": [{"weightPercent": 100}]}, "spec.rollout.strategy Canary"),
]


@pytest.mark.parametrize(("traffic", "rollout", "words"), NOBODY)
def test_without_a_router_nothing_is_divided(traffic, rollout, words):
    found = choice({"router": "None", **traffic}, rollout)
    assert (found.router, found.is_possible) == (Router.NONE, False)
    assert words in found.problem


@pytest.mark.parametrize("strategy", ["BlueGreen", "Recreate", "Rolling"])
def test_what_takes_over_at_once_needs_nobody_to_divide(strategy):
    assert choice({"router": "None"}, {"strategy": strategy}).is_possible
