"""Services: one of each revision, and the root Service that clients use."""

from typing import Any

from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.resources import labels, names
from modelserver_operator.resources.containers import PORT_NAME
from modelserver_operator.resources.kinds import SERVICE
from modelserver_operator.resources.metadata import make_child

SERVICE_PORT = 80


def make_revision_service(server: ModelServer, revision: str) -> dict[str, Any]:
    name = names.revision_child(server.name, revision)
    body = {"spec": _spec(server.name, revision)}
    return make_child(server, SERVICE, name, body, revision=revision)


def make_root_service(server: ModelServer, revision: str) -> dict[str, Any]:
    """Selects the pods of one revision only, so that one that is starting gets no request."""
    body = {"spec": _spec(server.name, revision)}
    return make_child(server, SERVICE, names.root_service(server.name), body)


def _spec(server_name: str, revision: str) -> dict[str, Any]:
    port = {
        "name": PORT_NAME,
        "port": SERVICE_PORT,
        "targetPort": PORT_NAME,
        "protocol": "TCP",
        "appProtocol": "http",
    }
    selector = labels.revision_selector(server_name, revision)
    return {"type": "ClusterIP", "ports": [port], "selector": selector}
