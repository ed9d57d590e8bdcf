"""The route as the built-in router reads it: a JSON document in a ConfigMap."""

from typing import Any

from modelserver_operator.apis.traffic import Sticky
from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.resources import names
from modelserver_operator.resources.digest import canonical_json, digest
from modelserver_operator.resources.kinds import CONFIG_MAP
from modelserver_operator.resources.metadata import make_child
from modelserver_operator.resources.route import Hold, Mirror, Route, RoutedExperiment

ROUTE_FILE = "route.json"
VERSION_LENGTH = 8

type Document = dict[str, Any]


def make_route_config_map(server: ModelServer, route: Route) -> dict[str, Any]:
    """Complete in one object, so that a router never sees half of a change."""
    data = {ROUTE_FILE: canonical_json(route_document(server.name, route))}
    return make_child(server, CONFIG_MAP, names.router(server.name), {"data": data})


def route_version(server_name: str, route: Route) -> str:
    """What the routers report once they have this route."""
    return str(route_document(server_name, route)["version"])


def route_document(server_name: str, route: Route) -> Document:
    content = _content(server_name, route)
    return {"version": digest(content, length=VERSION_LENGTH), **content}


def _content(server_name: str, route: Route) -> Document:
    urls = {one: f"http://{names.revision_child(server_name, one)}" for one in route.revisions}
    optional = {
        "experiments": [_experiment(one) for one in route.experiments],
        "sticky": _sticky(route.sticky) if route.sticky else None,
        "mirror": _mirror(route.mirror) if route.mirror else None,
        "hold": _hold(route.hold) if route.hold else None,
    }
    return {
        "server": server_name,
        "stable": route.stable,
        "revisions": {revision: {"url": url} for revision, url in urls.items()},
        "weights": dict(route.weights),
        "timeoutSeconds": route.timeout_seconds,
        **{name: value for name, value in optional.items() if value},
    }


def _experiment(experiment: RoutedExperiment) -> Document:
    match = experiment.match.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {"name": experiment.name, "revision": experiment.revision, **match}


def _sticky(sticky: Sticky) -> Document:
    """Its one criterion; only a cookie has an end."""
    if sticky.cookie is not None:
        return {"cookie": sticky.cookie, "seconds": sticky.seconds}
    return {"header": sticky.header} if sticky.header is not None else {"userKey": True}


def _mirror(mirror: Mirror) -> Document:
    return {
        "revision": mirror.revision,
        "percent": mirror.percent,
        "baselinePercent": mirror.baseline_percent,
        "compare": str(mirror.compare),
        "minCosinePercent": mirror.min_cosine_percent,
    }


def _hold(hold: Hold) -> Document:
    return {
        "maxRequests": hold.max_requests,
        "maxBytes": hold.max_bytes,
        "maxSeconds": hold.max_seconds,
    }
