"""The template of a revision's pods."""

from collections.abc import Mapping
from typing import Any

from modelserver_operator.apis.pods import PodTemplate, Spread
from modelserver_operator.apis.quantity import canonical_quantities
from modelserver_operator.apis.runtime import OWN_ENV_PREFIX
from modelserver_operator.resources import labels, names
from modelserver_operator.resources.containers import (
    PRE_STOP_SECONDS,
    RESTRICTED,
    SERVER,
    does_fetch,
    make_fetch_containers,
    make_server_container,
)
from modelserver_operator.resources.overlay import overlaid
from modelserver_operator.resources.revision import Revision
from modelserver_operator.resources.volumes import make_volumes

GRACE_SLACK_SECONDS = 10  # between the end of draining and SIGKILL, to close and exit

POD_SECURITY = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}

_TOPOLOGIES = {
    Spread.ZONE: ("topology.kubernetes.io/zone", "kubernetes.io/hostname"),
    Spread.NODE: ("kubernetes.io/hostname",),
    Spread.NONE: (),
}


def make_pod_template(server_name: str, namespace: str, revision: Revision) -> dict[str, Any]:
    """Ours, the user's overlay over it, and over that again what must not change."""
    ours = _own_template(server_name, namespace, revision)
    if not (overlay := user_overlay(revision.served.pod_template)):
        return ours
    laid = overlaid(ours, overlay)
    return _secured(overlaid(laid, _protected(ours)))


def _own_template(server_name: str, namespace: str, revision: Revision) -> dict[str, Any]:
    return {
        "metadata": {"labels": pod_labels(server_name, revision)},
        "spec": _own_spec(server_name, namespace, revision),
    }


def pod_labels(server_name: str, revision: Revision) -> dict[str, str]:
    return {
        **labels.child_labels(server_name, revision.name),
        labels.PHASE: labels.FETCHING if revision.is_fetched else labels.SERVING,
    }


def _own_spec(server_name: str, namespace: str, revision: Revision) -> dict[str, Any]:
    served = revision.served
    spec = {
        "serviceAccountName": names.service_account(server_name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        "priorityClassName": served.priority_class_name,
        "terminationGracePeriodSeconds": grace_seconds(revision),
        "topologySpreadConstraints": _spread(server_name, revision),
        "initContainers": make_fetch_containers(server_name, revision),
        "containers": [make_server_container(server_name, namespace, revision)],
        "volumes": make_volumes(served),
    }
    return {key: value for key, value in spec.items() if value not in ([], "")}


def grace_seconds(revision: Revision) -> int:
    return PRE_STOP_SECONDS + revision.served.runtime.drain_seconds + GRACE_SLACK_SECONDS


def _spread(server_name: str, revision: Revision) -> list[dict[str, Any]]:
    selector = {"matchLabels": labels.revision_selector(server_name, revision.name)}
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": selector,
        }
        for key in _TOPOLOGIES[revision.served.spread]
    ]


def user_overlay(template: PodTemplate) -> dict[str, Any]:
    dumped = template.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    overlay: dict[str, Any] = canonical_quantities(dumped)
    return overlay


def _protected(ours: dict[str, Any]) -> dict[str, Any]:
    containers = {
        kind: [_promises(container) for container in ours["spec"].get(kind, [])]
        for kind in ("initContainers", "containers")
    }
    return {
        "metadata": {"labels": ours["metadata"]["labels"]},
        "spec": {
            "automountServiceAccountToken": False,
            **{kind: kept for kind, kept in containers.items() if kept},
        },
    }


def _promises(container: dict[str, Any]) -> dict[str, Any]:
    """Of one of our containers: its name, its variables, the port that is probed and served."""
    own = [v for v in container["env"] if v["name"].startswith(OWN_ENV_PREFIX)]
    promised = {"name": container["name"], "env": own}
    return {**promised, "ports": container["ports"]} if "ports" in container else promised


def _secured(template: dict[str, Any]) -> dict[str, Any]:
    """Containers of the user's own are as restricted as ours, unless they say otherwise."""
    spec = template["spec"]
    secured = {
        kind: [_restricted(container) for container in spec[kind]]
        for kind in ("initContainers", "containers")
        if kind in spec
    }
    return {**template, "spec": {**spec, **secured}}


def _restricted(container: dict[str, Any]) -> dict[str, Any]:
    theirs = container.get("securityContext", {})
    name = container["name"]
    if name == SERVER or does_fetch(name) or not isinstance(theirs, Mapping):
        return container
    return {**container, "securityContext": overlaid(RESTRICTED, theirs)}


def job_overlay(template: PodTemplate) -> dict[str, Any]:
    """Where and as whom the user's pods run, for a pod that has none of their containers."""
    overlay = user_overlay(template)
    others = ("containers", "initContainers", "volumes", "topologySpreadConstraints")
    kept = {key: value for key, value in overlay.get("spec", {}).items() if key not in others}
    return {**overlay, "spec": kept}
