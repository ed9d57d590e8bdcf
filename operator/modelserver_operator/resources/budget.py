"""PodDisruptionBudgets: of a revision, and of the built-in router."""

from collections.abc import Mapping
from typing import Any

from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.resources import labels, names
from modelserver_operator.resources.kinds import POD_DISRUPTION_BUDGET
from modelserver_operator.resources.metadata import make_child


def make_budget(server: ModelServer, revision: str) -> dict[str, Any]:
    name = names.revision_child(server.name, revision)
    spec = _spec(labels.revision_selector(server.name, revision))
    return make_child(server, POD_DISRUPTION_BUDGET, name, {"spec": spec}, revision=revision)


def make_router_budget(server: ModelServer) -> dict[str, Any]:
    spec = _spec(labels.router_selector(server.name))
    return make_child(server, POD_DISRUPTION_BUDGET, names.router(server.name), {"spec": spec})


def _spec(selector: Mapping[str, str]) -> dict[str, Any]:
    return {
        "maxUnavailable": 1,
        # A pod that is still loading must not keep a node from being drained.
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": dict(selector)},
    }
