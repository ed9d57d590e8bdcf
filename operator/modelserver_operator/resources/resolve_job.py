"""The Job that resolves a branch or tag of the hub to a commit."""

from typing import Any

from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.resources import labels, names
from modelserver_operator.resources.containers import make_resolve_container
from modelserver_operator.resources.digest import digest
from modelserver_operator.resources.kinds import JOB
from modelserver_operator.resources.metadata import make_child
from modelserver_operator.resources.overlay import overlaid
from modelserver_operator.resources.pod import POD_SECURITY, job_overlay
from modelserver_operator.resources.volumes import TEMPORARY_VOLUME

HASH_LENGTH = 8

# The kubelet starts a failed container again after 10 s, 20 s, ... 5 min, without any work of
# ours; after about a day of that the Job fails and the planner makes a new one.
BACKOFF_LIMIT = 300


def make_resolve_job(server: ModelServer, *, image: str, hub_endpoint: str) -> dict[str, Any]:
    model = server.spec.model
    container = make_resolve_container(server.name, model, image=image, hub_endpoint=hub_endpoint)
    template = _template(server, container)
    spec = {"backoffLimit": BACKOFF_LIMIT, "template": template}
    # Named after what it asks, so that another question is another Job.
    name = names.resolve_job(server.name, digest(template, length=HASH_LENGTH))
    return make_child(server, JOB, name, {"spec": spec})


def _template(server: ModelServer, container: dict[str, Any]) -> dict[str, Any]:
    overlay = job_overlay(server.spec.pod_template)
    pod_labels = {**labels.child_labels(server.name), labels.PHASE: labels.FETCHING}
    spec = {
        "restartPolicy": "OnFailure",
        "serviceAccountName": names.service_account(server.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        "containers": [container],
        "volumes": [{"name": TEMPORARY_VOLUME, "emptyDir": {}}],
    }
    ours = {"metadata": {"labels": pod_labels}, "spec": spec}
    protected = {
        "metadata": {"labels": pod_labels},
        "spec": {"restartPolicy": "OnFailure", "automountServiceAccountToken": False},
    }
    return overlaid(overlaid(ours, overlay), protected)
