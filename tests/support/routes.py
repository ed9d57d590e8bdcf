"""Routes for tests: stories in YAML, and the children that each router gets for them."""

import json
from pathlib import Path
from typing import Any

import yaml

from modelserver_operator.apis.traffic import ExperimentMatch, Router, Sticky, Traffic
from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.resources.budget import make_router_budget
from modelserver_operator.resources.gateway_api import make_http_routes
from modelserver_operator.resources.istio import make_destination_rule, make_virtual_service
from modelserver_operator.resources.network_policy import make_routed_policy, make_router_policy
from modelserver_operator.resources.route import Hold, Mirror, Route, RoutedExperiment
from modelserver_operator.resources.route_config import make_route_config_map
from modelserver_operator.resources.router import make_router
from modelserver_operator.resources.service import make_revision_service, make_routed_root_service
from support.planning import CONFIG, a_server

type Manifest = dict[str, Any]

STORIES = Path(__file__).parents[1] / "operator" / "golden_routes"
STABLE, CANARY = "a1b2c3d4", "d4e5f6a7"
IMAGE = "registry.example/runtime:1"


def a_route(**more: Any) -> Route:
    """95 to 5 between two revisions."""
    base = {
        "stable": STABLE,
        "revisions": (STABLE, CANARY),
        "weights": {STABLE: 95, CANARY: 5},
        "timeout_seconds": 120,
    }
    return Route(**base | more)


def an_experiment(name: str = "beta", revision: str = CANARY, **match: Any) -> RoutedExperiment:
    given = ExperimentMatch.model_validate_json(json.dumps(match))
    return RoutedExperiment(name=name, revision=revision, match=given)


def a_sticky(**fields: Any) -> Sticky:
    return Sticky.model_validate_json(json.dumps(fields))


def a_traffic(**fields: Any) -> Traffic:
    return Traffic.model_validate_json(json.dumps(fields))


def story(name: str) -> tuple[ModelServer, Route, list[Router]]:
    """A server, its route, and the routers that can do it."""
    given = yaml.safe_load((STORIES / name / "in.yaml").read_text())
    routers = [Router(one) for one in given.get("routers", ["Gateway", "Istio", "GatewayAPI"])]
    return a_server(given.get("spec"), name="chat"), _route_of(given["route"]), routers


def _route_of(given: Manifest) -> Route:
    fields = dict(given)
    for name in ("revisions", "hosts", "gateways"):
        if name in fields:
            fields[name] = tuple(fields[name])
    if "experiments" in fields:
        fields["experiments"] = tuple(an_experiment(**one) for one in fields["experiments"])
    if "sticky" in fields:
        fields["sticky"] = a_sticky(**fields["sticky"])
    if "mirror" in fields:
        fields["mirror"] = Mirror(**fields["mirror"])
    if "hold" in fields:
        fields["hold"] = Hold(**fields["hold"])
    return a_route(**fields)


def children_of(router: Router, server: ModelServer, route: Route) -> list[Manifest]:
    match router:
        case Router.GATEWAY:
            return [
                make_router_policy(server, CONFIG),
                make_routed_policy(server),
                make_route_config_map(server, route),
                make_router(server, IMAGE),
                make_routed_root_service(server),
                make_router_budget(server),
            ]
        case Router.ISTIO:
            rules = [make_destination_rule(server, one, CONFIG) for one in route.revisions]
            return [*rules, make_virtual_service(server, route, CONFIG)]
        case Router.GATEWAY_API:
            return list(make_http_routes(server, route))
        case _:
            raise AssertionError(f"no children of {router}")


def services_of(server: ModelServer, route: Route) -> list[Manifest]:
    return [make_revision_service(server, revision) for revision in route.revisions]
