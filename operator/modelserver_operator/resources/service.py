"""Services: one of each revision, and the root Service that clients use."""

from collections.abc import Mapping
from typing import Any

from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.resources import labels, names
from modelserver_operator.resources.containers import PORT_NAME
from modelserver_operator.resources.kinds import SERVICE
from modelserver_operator.resources.metadata import make_child

SERVICE_PORT = 80


def make_revision_service(server: ModelServer, revision: str) -> dict[str, Any]:
    name = names.revision_child(server.name, revision)
    body = {"spec": _spec(labels.revision_selector(server.name, revision))}
    return make_child(server, SERVICE, name, body, revision=revision)


def make_root_service(server: ModelServer, revision: str) -> dict[str, Any]:
    """Selects the pods of one revision only, so that one that is starting gets no request."""
    return _make_root(server, labels.revision_selector(server.name, revision))


def make_routed_root_service(server: ModelServer) -> dict[str, Any]:
    """Selects the pods of the built-in router, which pass on to the revisions' own Services."""
    return _make_root(server, labels.router_selector(server.name))


def _make_root(server: ModelServer, selector: Mapping[str, str]) -> dict[str, Any]:
    return make_child(server, SERVICE, names.root_service(server.name), {"spec": _spec(selector)})


def _spec(selector: Mapping[str, str]) -> dict[str, Any]:
    port = {
        "name": PORT_NAME,
        "port": SERVICE_PORT,
        "targetPort": PORT_NAME,
        "protocol": "TCP",
        "appProtocol": "http",
    }
    return {"type": "ClusterIP", "ports": [port], "selector": dict(selector)}
