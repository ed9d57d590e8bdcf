"""The route as the Gateway API reads it: an HTTPRoute for its Gateways, and one for a mesh.

Two, because what `hostnames` mean for a route whose parent is a Service is not defined. Every
field that the API server would fill in is written, so that nothing differs afterwards.
"""

from collections.abc import Iterator
from typing import Any

from modelserver_operator.apis.traffic import ExperimentMatch
from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.resources import names
from modelserver_operator.resources.kinds import HTTP_ROUTE, SERVICE
from modelserver_operator.resources.matching import cookie_pattern
from modelserver_operator.resources.metadata import make_child
from modelserver_operator.resources.route import WHOLE, Mirror, Route, RoutedExperiment
from modelserver_operator.resources.service import SERVICE_PORT

GROUP = HTTP_ROUTE.api_version.partition("/")[0]
_ANY_PATH = {"path": {"type": "PathPrefix", "value": "/"}}

type Part = dict[str, Any]


def make_http_routes(server: ModelServer, route: Route) -> Iterator[dict[str, Any]]:
    """Holds and stickiness are not in them: each request is sent on by itself."""
    if route.gateways:
        spec = {
            "parentRefs": [_gateway(server, one) for one in route.gateways],
            **({"hostnames": list(route.hosts)} if route.hosts else {}),
            "rules": list(_rules(server.name, route)),
        }
        yield make_child(server, HTTP_ROUTE, names.gateway_route(server.name), {"spec": spec})
    inside = {"parentRefs": [_root_service(server)], "rules": list(_rules(server.name, route))}
    yield make_child(server, HTTP_ROUTE, names.mesh_route(server.name), {"spec": inside})


def _gateway(server: ModelServer, name: str) -> Part:
    namespace, _, gateway = name.rpartition("/")
    return {
        "group": GROUP,
        "kind": "Gateway",
        "namespace": namespace or server.namespace,
        "name": gateway,
    }


def _root_service(server: ModelServer) -> Part:
    name = names.root_service(server.name)
    return {"group": "", "kind": SERVICE.kind, "name": name, "port": SERVICE_PORT}


def _rules(server_name: str, route: Route) -> Iterator[Part]:
    """A rule that matches a header goes before one that does not; of equal ones, the first."""
    timeouts = {"timeouts": {"request": f"{route.timeout_seconds}s"}}
    for experiment in route.experiments:
        yield {**_experiment(server_name, experiment), **timeouts}
    yield {**_main(server_name, route), **timeouts}


def _experiment(server_name: str, experiment: RoutedExperiment) -> Part:
    return {
        "matches": [{**_ANY_PATH, "headers": [_header(experiment.match)]}],
        "backendRefs": [{**_backend(server_name, experiment.revision), "weight": WHOLE}],
    }


def _main(server_name: str, route: Route) -> Part:
    backends = [
        {**_backend(server_name, revision), "weight": weight}
        for revision, weight in route.shares.items()
    ]
    mirrored = {"filters": [_mirror(server_name, route.mirror)]} if route.mirror else {}
    return {"matches": [_ANY_PATH], **mirrored, "backendRefs": backends}


def _backend(server_name: str, revision: str) -> Part:
    name = names.revision_child(server_name, revision)
    return {"group": "", "kind": SERVICE.kind, "name": name, "port": SERVICE_PORT}


def _mirror(server_name: str, mirror: Mirror) -> Part:
    fraction = {"numerator": mirror.percent, "denominator": WHOLE}
    backend = _backend(server_name, mirror.revision)
    return {
        "type": "RequestMirror",
        "requestMirror": {"backendRef": backend, "fraction": fraction},
    }


def _header(match: ExperimentMatch) -> Part:
    if match.header is not None:
        return {"type": "Exact", "name": match.header.name, "value": match.header.value}
    if match.cookie is not None:
        pattern = cookie_pattern(match.cookie)
        return {"type": "RegularExpression", "name": "cookie", "value": pattern}
    raise ValueError("HTTPRoutes cannot tell users apart: `router_of` refuses this before")
