"""Routes of Istio and the Gateway API as children of a whole plan: when they come, stay and go."""

from dataclasses import replace

import pytest

from modelserver_operator.plan.desired import desired_state
from modelserver_operator.plan.values import ChildKey
from modelserver_operator.resources.kinds import OPTIONAL_KINDS
from modelserver_operator.resources.router_choice import Capabilities
from support.planning import World, a_manifest

EVERYTHING = Capabilities(kinds=frozenset(OPTIONAL_KINDS))
ROUTES = {"DestinationRule", "VirtualService", "HTTPRoute"}


class Place(World):
    """A cluster that has more than Kubernetes."""

    capabilities = EVERYTHING

    def observe(self):
        return replace(super().observe(), capabilities=self.capabilities)


def serving(**traffic):
    """One revision serves, and nothing is left to do."""
    spec = {"model": {"uri": "pvc://models"}, "traffic": traffic}
    place = Place(a_manifest(spec))
    place.settle()
    place.make_all_ready()
    place.settle()
    return place


def routes(place):
    return sorted(f"{key.kind}/{key.name}" for key in place.children if key.kind in ROUTES)


def shares(place):
    [rule] = place.children[ChildKey("VirtualService", "chat")]["spec"]["http"]
    hosts = {one["destination"]["host"].partition(".")[0]: one["weight"] for one in rule["route"]}
    return {host.removeprefix("chat-"): weight for host, weight in hosts.items()}


def test_clients_of_a_gateway_have_a_route_without_any_rollout():
    place = serving(gateways=["public"], hosts=["chat.example.com"])
    revision = place.root_revision()
    assert routes(place) == [f"DestinationRule/chat-{revision}", "VirtualService/chat"]
    assert shares(place) == {revision: 100}


def test_the_gateway_api_has_a_route_for_each_side():
    place = serving(router="GatewayAPI", gateways=["public"])
    assert routes(place) == ["HTTPRoute/chat", "HTTPRoute/chat.mesh"]


@pytest.mark.parametrize("router", ["Gateway", "None", "Auto"])
def test_others_need_no_route_at_rest(router):
    assert routes(serving(router=router)) == []


def test_the_route_moves_with_the_service_and_not_before():
    place = serving(router="Istio")
    old = place.root_revision()
    place.change(runtime={"args": ["--next"]})
    place.settle()
    [new] = place.revisions() - {old}
    assert shares(place) == {old: 100}
    assert f"DestinationRule/chat-{new}" in routes(place)
    place.make_all_ready()
    place.settle()
    assert (shares(place), place.root_revision()) == ({new: 100}, new)
    assert f"DestinationRule/chat-{old}" in routes(place)
    place.pass_time(60)
    place.settle()
    assert routes(place) == [f"DestinationRule/chat-{new}", "VirtualService/chat"]


def test_what_leads_somewhere_is_written_before_what_leads_there():
    spec = {"model": {"uri": "pvc://models"}, "traffic": {"router": "Istio"}}
    written = [write.manifest["kind"] for write in Place(a_manifest(spec)).plan().writes]
    assert written.index("Service") < written.index("DestinationRule")
    assert written.index("DestinationRule") < written.index("VirtualService")


def test_without_its_definition_no_route_is_written_and_the_sentence_says_why():
    place = Place(a_manifest({"model": {"uri": "pvc://models"}, "traffic": {"router": "Istio"}}))
    place.capabilities = Capabilities()
    plan = desired_state(place.server(), place.observe(), place.config, place.now)
    assert not ROUTES & {write.manifest["kind"] for write in plan.writes}
    assert "The cluster has no DestinationRule" in plan.route_problem


def test_another_router_takes_the_routes_away():
    place = serving(router="Istio")
    place.change(traffic={"router": "GatewayAPI"})
    place.settle()
    assert routes(place) == ["HTTPRoute/chat.mesh"]
    place.change(traffic={"router": "Gateway"})
    place.settle()
    assert routes(place) == []
