"""Questions to the manifests of pods and of what makes them."""

from collections.abc import Iterator, Mapping
from typing import Any

from modelserver_operator.plan.values import Manifest
from modelserver_operator.resources import labels

FAILED = "Failed"
SUCCEEDED = "Succeeded"


def name_of(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


def revision_of(manifest: Manifest) -> str:
    return str(manifest["metadata"].get("labels", {}).get(labels.REVISION, ""))


def phase_of(pod: Manifest) -> str:
    return str(status_of(pod).get("phase", ""))


def status_of(manifest: Manifest) -> Mapping[str, Any]:
    return manifest.get("status") or {}


def job_of(pod: Manifest) -> str:
    """Name of the Job that made the pod; empty for pods of a Deployment."""
    owners = pod["metadata"].get("ownerReferences") or ()
    return next((str(one["name"]) for one in owners if one.get("kind") == "Job"), "")


def condition_of(manifest: Manifest, kind: str) -> Mapping[str, Any]:
    """The condition of this type; an empty one if there is none."""
    conditions = status_of(manifest).get("conditions") or ()
    return next((one for one in conditions if one.get("type") == kind), {})


def is_being_deleted(manifest: Manifest) -> bool:
    return "deletionTimestamp" in manifest["metadata"]


def is_alive(pod: Manifest) -> bool:
    return not is_being_deleted(pod) and phase_of(pod) not in {FAILED, SUCCEEDED}


def is_ready(pod: Manifest) -> bool:
    """Whether the pod serves; one of a Job is called ready as soon as it runs, and never serves."""
    is_said = condition_of(pod, "Ready").get("status") == "True"
    return is_said and is_alive(pod) and not job_of(pod)


def ready_since(pod: Manifest) -> str:
    """RFC 3339, which sorts as text; empty if the pod is not ready."""
    return str(condition_of(pod, "Ready").get("lastTransitionTime", "")) if is_ready(pod) else ""


def failed_at(pod: Manifest) -> str:
    """When the pod's last word was said, at the latest known moment."""
    conditions = status_of(pod).get("conditions") or ()
    ends = [
        str(state["terminated"].get("finishedAt") or "")
        for container in _statuses(pod)
        if "terminated" in (state := container.get("state") or {})
    ]
    times = [str(one.get("lastTransitionTime") or "") for one in conditions]
    return max([str(pod["metadata"].get("creationTimestamp") or ""), *ends, *times])


def _statuses(pod: Manifest) -> Iterator[Mapping[str, Any]]:
    for kind in ("initContainerStatuses", "containerStatuses"):
        yield from status_of(pod).get(kind) or ()


def restarts_of(pod: Manifest) -> int:
    """Of the container of it that was started again most often."""
    return max((int(one.get("restartCount", 0)) for one in _statuses(pod)), default=0)


def container_status(pod: Manifest, name: str) -> Mapping[str, Any]:
    """Empty if the kubelet has said nothing about this container yet."""
    return next((one for one in _statuses(pod) if one.get("name") == name), {})
