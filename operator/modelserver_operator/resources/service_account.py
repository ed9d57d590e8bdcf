"""The ServiceAccount of a server's pods: an identity without a token or a right."""

from typing import Any

from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.resources import names
from modelserver_operator.resources.kinds import SERVICE_ACCOUNT
from modelserver_operator.resources.metadata import make_child


def make_service_account(server: ModelServer) -> dict[str, Any]:
    body = {"automountServiceAccountToken": False}
    return make_child(server, SERVICE_ACCOUNT, names.service_account(server.name), body)
