"""The Deployment of a revision."""

from typing import Any

from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.resources import labels, names
from modelserver_operator.resources.containers import STARTUP_BUDGET_SECONDS
from modelserver_operator.resources.kinds import DEPLOYMENT
from modelserver_operator.resources.metadata import make_child
from modelserver_operator.resources.pod import make_pod_template
from modelserver_operator.resources.revision import Revision

# Above what starting may take, and as much again for fetching, so that the Deployment does not
# call a slow start a failure.
PROGRESS_DEADLINE_SECONDS = 2 * STARTUP_BUDGET_SECONDS


def make_deployment(
    server: ModelServer, revision: Revision, *, replicas: int | None
) -> dict[str, Any]:
    """Without a number of pods where somebody else writes it."""
    spec = {
        **({} if replicas is None else {"replicas": replicas}),
        "revisionHistoryLimit": 1,  # history is kept by ControllerRevisions
        "progressDeadlineSeconds": PROGRESS_DEADLINE_SECONDS,
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
        },
        "selector": {"matchLabels": labels.revision_selector(server.name, revision.name)},
        "template": make_pod_template(server.name, server.namespace, revision),
    }
    name = names.revision_child(server.name, revision.name)
    return make_child(server, DEPLOYMENT, name, {"spec": spec}, revision=revision.name)


def make_shared_replicas(server: ModelServer, revision: str, replicas: int) -> dict[str, Any]:
    """Of that Deployment only the number of its pods."""
    return {
        "apiVersion": DEPLOYMENT.api_version,
        "kind": DEPLOYMENT.kind,
        "metadata": {
            "name": names.revision_child(server.name, revision),
            "namespace": server.namespace,
        },
        "spec": {"replicas": replicas},
    }
