"""The PodDisruptionBudget of a revision."""

from typing import Any

from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.resources import labels, names
from modelserver_operator.resources.kinds import POD_DISRUPTION_BUDGET
from modelserver_operator.resources.metadata import make_child


def make_budget(server: ModelServer, revision: str) -> dict[str, Any]:
    spec = {
        "maxUnavailable": 1,
        # A pod that is still loading must not keep a node from being drained.
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": labels.revision_selector(server.name, revision)},
    }
    name = names.revision_child(server.name, revision)
    return make_child(server, POD_DISRUPTION_BUDGET, name, {"spec": spec}, revision=revision)
