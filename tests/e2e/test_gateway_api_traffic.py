"""HTTPRoutes under real traffic: Envoy Gateway carries out what the operator writes.

Clients ask an Envoy by host name, 25 marked requests a second for each ModelServer, and compare
what they see with what the operator tells. Play and judgement are those of the built-in router.
"""

import json
from collections import Counter

import httpx
import pytest

from devcluster.demo.clusters import devcluster
from devcluster.envoy_gateway import GATEWAY_CLASS
from e2e.rollout_play import ASKED, PATIENCE, Play
from e2e.rollout_scenarios import CANARY, HELD, STEPS, failing, healthy
from e2e.rollout_verdicts import require_rolled_back, require_share, require_unnoticed
from modelserver_operator.apis.v1alpha1 import parse_model_server
from modelserver_operator.resources.gateway_api import make_http_routes
from support.routes import a_route, an_experiment
from support.waiting import wait_until

pytestmark = pytest.mark.dataplane

GATEWAYS = "modelserver-e2e-gateways"  # a namespace of its own, as platform teams have it
EVERYBODY, OWN_NAMESPACE = "All", "Same"

COPIED_PERCENT = 20


def a_gateway(name, namespaces):
    listener = {"name": "http", "port": 80, "protocol": "HTTP",
                "allowedRoutes": {"namespaces": {"from": namespaces}}}  # fmt: skip
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": GATEWAYS},
        "spec": {"gatewayClassName": GATEWAY_CLASS, "listeners": [listener]},
    }


class Gateways:
    """Those of the platform team."""

    def __init__(self, kubectl):
        self._kubectl = kubectl

    def make(self, name, namespaces):
        """Made or changed; returns its address when its proxy runs."""
        self._kubectl.run("apply", "-f", "-", stdin=json.dumps(a_gateway(name, namespaces)))
        return wait_until(lambda: self._address(name), timeout=PATIENCE, what=f"Gateway {name}")

    def _address(self, name):
        gateway = self._kubectl.get("-n", GATEWAYS, "gateway", name) or {}
        status = gateway.get("status", {})
        conditions = {one["type"]: one for one in status.get("conditions", [])}
        programmed = conditions.get("Programmed", {})
        if programmed.get("status") != "True":
            return ""
        if programmed.get("observedGeneration") != gateway["metadata"]["generation"]:
            return ""
        return f"http://{status['addresses'][0]['value']}"


@pytest.fixture(scope="module")
def gateways(cluster, kubectl):
    devcluster("install-gateway", "--name", cluster.name)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": GATEWAYS}}
    kubectl.run("apply", "-f", "-", stdin=json.dumps(namespace))
    yield Gateways(kubectl)
    kubectl.run("delete", "namespace", GATEWAYS, "--wait")


@pytest.fixture(scope="module")
def public(gateways):
    return gateways.make("public", EVERYBODY)


@pytest.fixture
def a_play(module_servers, watch, marked, gateways):
    """A ModelServer behind a Gateway; `entrance` is where its clients ask."""

    def make(name, *, gateway="public", entrance=""):
        host = f"{name}.example.com"
        traffic = {
            "router": "GatewayAPI",
            "hosts": [host],
            "gateways": [f"{GATEWAYS}/{gateway}"],
        }
        play = Play(
            servers=module_servers, watch=watch, name=name, spec={**marked, "traffic": traffic}
        )
        play.entrance, play.host = entrance, host if entrance else ""
        return play

    return make


def test_a_healthy_canary_takes_over_by_weights_of_an_http_route(a_play, public, record):
    play = a_play("routed", entrance=public)
    healthy(play)
    require_unnoticed(play, record)
    record("seconds_to_succeeded", play.seconds_of("Succeeded"))
    assert play.last.status["servingRevision"] == play.new
    assert set(play.traffic.revisions()) == {play.old, play.new}
    held = play.held_weights()
    assert [weight for weight, _, _ in held] == [step["weightPercent"] for step in STEPS]
    for weight, since, until in held:
        require_share(play, record, weight, play.traffic.made_by(since, until))


def test_a_canary_that_fails_every_tenth_request_is_rolled_back(a_play, public, record):
    play = a_play("failing-routed", entrance=public)
    failing(play)
    require_rolled_back(play, record, "ErrorRate")
    assert {answer.status for answer in play.traffic.failures()} == {500}
    require_unnoticed(play, record, but_of=play.new)


def test_copies_are_as_many_as_asked_for_and_answer_no_client(a_play, public, record):
    """Nobody compares them, so that a person must say that it goes on."""
    play = a_play("copied", entrance=public)
    shadow = {"percent": COPIED_PERCENT, "holdSeconds": 0}
    with play.on_stage({**CANARY, "shadow": shadow}):
        play.change(MARKER="second")
        play.until(lambda one: one.run.get("holding"), "holding")
        assert "copies are not compared" in play.last.run["holding"]["message"]
        wait_until(lambda: play.requests_of(play.new), timeout=PATIENCE, what="the first copy")
        copies, asked = play.requests_of(play.new), len(play.traffic.answers)
        play.traffic.wait_for_answers(300)
        copies, asked = play.requests_of(play.new) - copies, len(play.traffic.answers) - asked
        assert set(play.traffic.revisions()) == {play.old}
        play.command("promote-step")
        play.until_phase("Succeeded")
        play.until_gone(play.old)
    require_share(play, record, COPIED_PERCENT, Counter({play.new: copies, "": asked - copies}))
    require_unnoticed(play, record)
    assert play.last.status["servingRevision"] == play.new


WHO_GETS_IT = {
    "of a header": ({"x-track": "beta"}, True),
    "of another value": ({"x-track": "alpha"}, False),
    "of a cookie among others": ({"cookie": "a=1; group=a.b c; z=26"}, True),
    "of a cookie with a longer value": ({"cookie": "group=a.b cd"}, False),
    "of a cookie with a longer name": ({"cookie": "subgroup=a.b c"}, False),
    "of a value that only a pattern takes for it": ({"cookie": "group=aXb c"}, False),
    "of nobody": ({}, False),
}


def test_experiments_are_asked_by_header_and_cookie(a_play, public, module_servers):
    """By a route beside the operator's own, with the rules that it writes."""
    play = a_play("tried", entrance=public)
    with play.on_stage({**CANARY, "steps": HELD}):
        play.change(MARKER="second")
        play.until_phase("Analyzing")
        server = parse_model_server(module_servers.get("modelserver", "tried"))
        route = a_route(
            stable=play.old,
            revisions=(play.old, play.new),
            weights={play.old: 100},
            experiments=(
                an_experiment("beta", play.new, header={"name": "X-Track", "value": "beta"}),
                an_experiment("group", play.new, cookie={"name": "group", "value": "a.b c"}),
            ),
            hosts=("experiments.example.com",),
            gateways=(f"{GATEWAYS}/public",),
        )
        manifest, _ = make_http_routes(server, route)
        manifest["metadata"] = {"name": "experiments"}
        module_servers.run("apply", "-f", "-", stdin=json.dumps(manifest))
        play.way_in(public, "experiments.example.com")
        for case, (headers, is_tried) in WHO_GETS_IT.items():
            made_by = who_answers(public, {"host": "experiments.example.com", **headers})
            assert made_by == (play.new if is_tried else play.old), case
    module_servers.run("delete", "httproute", "experiments")


def who_answers(entrance, headers):
    body = {"messages": [{"role": "user", "content": "who"}]}
    answer = httpx.post(f"{entrance}{ASKED}", json=body, headers=headers, timeout=PATIENCE)
    return answer.headers["x-model-revision"]


def test_no_traffic_moves_until_the_gateway_lets_the_route_in(a_play, gateways, record):
    """Until then clients ask the Service, which nothing divides: a mesh is not there."""
    address = gateways.make("closed", OWN_NAMESPACE)
    play = a_play("waiting", gateway="closed")
    with play.on_stage(CANARY):
        play.change(MARKER="second")
        play.until(lambda one: one.run.get("holding"), "holding")
        holding = play.last.run["holding"]
        assert holding["reason"] == "RouteNotAccepted"
        assert f"Gateway {GATEWAYS}/closed" in holding["message"]
        assert "gateway.envoyproxy.io/gatewayclass-controller says" in holding["message"]
        play.traffic.wait_for_answers(25)
        assert set(play.traffic.revisions()) == {play.old}
        gateways.make("closed", EVERYBODY)
        play.move_clients(address, "waiting.example.com")
        play.until_phase("Succeeded")
        play.until_gone(play.old)
    require_unnoticed(play, record)
    assert play.last.status["servingRevision"] == play.new


def test_a_gateway_that_does_not_exist_is_waited_for(a_play, gateways):
    play = a_play("early", gateway="later")
    with play.on_stage(CANARY):
        play.change(MARKER="second")
        play.until(lambda one: one.run.get("holding"), "holding")
        holding = play.last.run["holding"]
        assert holding["reason"] == "RouteNotConfirmed"
        assert f"no answer of Gateway {GATEWAYS}/later" in holding["message"]
        gateways.make("later", EVERYBODY)
        play.until_phase("Analyzing")
