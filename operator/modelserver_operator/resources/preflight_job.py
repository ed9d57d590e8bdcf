"""The Job that asks a revision's pods the golden set, before any other traffic."""

from typing import Any

from modelserver_operator.apis.rollout import Preflight
from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.resources import labels, names
from modelserver_operator.resources.containers import RESTRICTED
from modelserver_operator.resources.digest import digest
from modelserver_operator.resources.kinds import JOB
from modelserver_operator.resources.metadata import make_child
from modelserver_operator.resources.overlay import overlaid
from modelserver_operator.resources.pod import POD_SECURITY, job_overlay
from modelserver_operator.resources.revision import Revision
from modelserver_operator.resources.service import SERVICE_PORT
from modelserver_operator.resources.serving import Environment, variable
from modelserver_operator.resources.volumes import TEMPORARY_DIRECTORY, TEMPORARY_VOLUME

PREFLIGHT = "preflight"
GOLDEN_SET_VOLUME = "golden-set"
GOLDEN_SET_DIRECTORY = "/etc/modelserver/golden-set"
GOLDEN_SET_FILE = "cases.jsonl"
HASH_LENGTH = 8

# For a node, for the image, for the Service to learn of the pods: none of that is the cases' time.
START_SECONDS = 600

# It asks one question at a time over HTTP.
PREFLIGHT_RESOURCES = {
    "requests": {"cpu": "50m", "memory": "128Mi"},
    "limits": {"cpu": "1", "memory": "512Mi"},
}


def preflight_image(revision: Revision, default: str) -> str:
    """The revision's runtime, or the operator's `default` where it serves another program."""
    return revision.fetch_image or default


def make_preflight_job(
    server: ModelServer, preflight: Preflight, *, revision: str, image: str, run: str
) -> dict[str, Any]:
    """`run` tells this rollout from one that asks the same again, after a `retry` for example."""
    template = _template(server, preflight, revision, image)
    spec = {
        # An answer that is wrong is an answer: asking until one is right would be no examination.
        "backoffLimit": 0,
        "activeDeadlineSeconds": preflight.timeout_seconds + START_SECONDS,
        "template": template,
    }
    name = names.preflight_job(server.name, digest([template, run], length=HASH_LENGTH))
    return make_child(server, JOB, name, {"spec": spec})


def _template(
    server: ModelServer, preflight: Preflight, revision: str, image: str
) -> dict[str, Any]:
    """Without the revision's label, so that no request to the revision comes here."""
    pod_labels = {**labels.child_labels(server.name), labels.ROLE: labels.PREFLIGHT}
    own = {"restartPolicy": "Never", "automountServiceAccountToken": False}
    spec = {
        **own,
        "serviceAccountName": names.service_account(server.name),
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        "containers": [_container(server, preflight, revision, image)],
        "volumes": [
            _golden_set_volume(preflight),
            {"name": TEMPORARY_VOLUME, "emptyDir": {}},
        ],
    }
    ours = {"metadata": {"labels": pod_labels}, "spec": spec}
    protected = {"metadata": {"labels": pod_labels}, "spec": own}
    return overlaid(overlaid(ours, job_overlay(server.spec.pod_template)), protected)


def _golden_set_volume(preflight: Preflight) -> dict[str, Any]:
    reference = preflight.golden_set.config_map_ref
    items = [{"key": reference.key, "path": GOLDEN_SET_FILE}]
    return {"name": GOLDEN_SET_VOLUME, "configMap": {"name": reference.name, "items": items}}


def _container(
    server: ModelServer, preflight: Preflight, revision: str, image: str
) -> dict[str, Any]:
    return {
        "name": PREFLIGHT,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": _arguments(server, preflight, revision),
        "env": _environment(preflight),
        "resources": PREFLIGHT_RESOURCES,
        "volumeMounts": [
            {"name": GOLDEN_SET_VOLUME, "mountPath": GOLDEN_SET_DIRECTORY, "readOnly": True},
            {"name": TEMPORARY_VOLUME, "mountPath": TEMPORARY_DIRECTORY},
        ],
        "securityContext": dict(RESTRICTED),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _arguments(server: ModelServer, preflight: Preflight, revision: str) -> list[str]:
    service = names.revision_child(server.name, revision)
    return [
        "preflight",
        f"--url=http://{service}:{SERVICE_PORT}",
        f"--cases={GOLDEN_SET_DIRECTORY}/{GOLDEN_SET_FILE}",
        f"--min-pass-percent={preflight.min_pass_percent}",
        f"--timeout={preflight.timeout_seconds}",
    ]


def _environment(preflight: Preflight) -> Environment:
    """The key is named as OpenAI's own tools have it."""
    environment = [variable("HOME", TEMPORARY_DIRECTORY)]
    if preflight.api_key is not None:
        key = {"name": preflight.api_key.name, "key": preflight.api_key.key}
        environment.append({"name": "OPENAI_API_KEY", "valueFrom": {"secretKeyRef": key}})
    return environment
