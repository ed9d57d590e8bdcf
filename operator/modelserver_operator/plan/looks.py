"""Reading observed objects: what their controllers say about them."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from modelserver_operator.plan.values import ChildKey, Manifest, Observed
from modelserver_operator.resources import labels, names
from modelserver_operator.resources.kinds import CONTROLLER_REVISION, DEPLOYMENT, SERVICE
from modelserver_operator.resources.revision import Revision, revision_from_data

_REVISION = re.compile(r"[0-9a-f]{8}")


def key_of(manifest: Manifest) -> ChildKey:
    return ChildKey(kind=manifest["kind"], name=manifest["metadata"]["name"])


def revision_label(manifest: Manifest) -> str:
    """Of a pod: the revision that it was made for; "" for pods of Jobs."""
    return str(manifest["metadata"].get("labels", {}).get(labels.REVISION, ""))


def child_revision(manifest: Manifest, server_name: str) -> str:
    """Whose child of its own it is, by the name, which nobody can bend; "" for other children."""
    server, _, revision = manifest["metadata"]["name"].rpartition("-")
    return revision if server == server_name and _REVISION.fullmatch(revision) else ""


def parse_time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def children_of_kind(observed: Observed, kind: str) -> list[Manifest]:
    return [child for key, child in sorted(observed.children.items()) if key.kind == kind]


def stored_revisions(observed: Observed) -> dict[str, Revision]:
    """The revisions that a ControllerRevision keeps, by name."""
    return {
        revision.name: revision
        for manifest in children_of_kind(observed, CONTROLLER_REVISION.kind)
        if (revision := revision_from_data(manifest.get("data") or {})) is not None
    }


def deployment_of(observed: Observed, server_name: str, revision: str) -> Manifest | None:
    name = names.revision_child(server_name, revision)
    return observed.children.get(ChildKey(kind=DEPLOYMENT.kind, name=name))


def root_revision(observed: Observed, server_name: str) -> str:
    """The revision that the root Service selects; empty if there is no such Service of ours."""
    key = ChildKey(kind=SERVICE.kind, name=names.root_service(server_name))
    service = observed.children.get(key, {})
    selector = service.get("spec", {}).get("selector") or {}
    return str(selector.get(labels.REVISION, ""))


def ready_replicas(deployment: Manifest | None) -> int:
    return int((deployment or {}).get("status", {}).get("readyReplicas", 0))


def is_complete(deployment: Manifest | None, *, replicas: int) -> bool:
    """Whether as many pods as wanted are ready and of the Deployment's latest template."""
    if deployment is None:
        return False
    status = deployment.get("status", {})
    is_current = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    ready = min(status.get("updatedReplicas", 0), status.get("readyReplicas", 0))
    is_scaled = deployment["spec"].get("replicas", 1) >= replicas  # the API's default
    return bool(is_current and is_scaled and ready >= replicas)


def condition(manifest: Manifest, kind: str) -> Mapping[str, Any]:
    """The condition of that type; empty if the object has none."""
    conditions = manifest.get("status", {}).get("conditions") or []
    return next((one for one in conditions if one.get("type") == kind), {})


def is_true(manifest: Manifest, kind: str) -> bool:
    return condition(manifest, kind).get("status") == "True"


def is_going(manifest: Manifest) -> bool:
    return "deletionTimestamp" in manifest["metadata"]


def container_status(pod: Manifest, name: str) -> Mapping[str, Any]:
    """Of a container or init container; empty if the kubelet has not reported it."""
    status = pod.get("status", {})
    kinds = ("initContainerStatuses", "containerStatuses")
    statuses = [one for kind in kinds for one in status.get(kind) or []]
    return next((one for one in statuses if one.get("name") == name), {})
