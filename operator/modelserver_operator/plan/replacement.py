"""The whole object for a PUT that takes away what others added, and nothing that must stay."""

from typing import Any

from modelserver_operator.plan.values import Manifest
from modelserver_operator.resources.labels import RESTARTED_AT

# A Service keeps its addresses, whatever else is put right; a Deployment the number of pods that
# an autoscaler has given it.
_KEPT_SPEC_FIELDS = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "replicas")


def replacement_of(desired: Manifest, observed: Manifest) -> Manifest:
    """With `resourceVersion`, so that it replaces exactly what was looked at."""
    replaced = {**desired, "metadata": _metadata(desired["metadata"], observed["metadata"])}
    spec = {**_kept(observed.get("spec", {})), **desired.get("spec", {})}
    if "template" in spec:
        spec["template"] = _with_restart(spec["template"], observed["spec"].get("template", {}))
    return {**replaced, "spec": spec} if spec else replaced


def _kept(spec: dict[str, Any]) -> dict[str, Any]:
    return {field: spec[field] for field in _KEPT_SPEC_FIELDS if field in spec}


def _metadata(desired: dict[str, Any], observed: dict[str, Any]) -> dict[str, Any]:
    """Labels, annotations, finalizers and further owners by others are theirs to keep."""
    owner_uids = {owner["uid"] for owner in desired["ownerReferences"]}
    others = [o for o in observed.get("ownerReferences", []) if o["uid"] not in owner_uids]
    metadata = {
        **desired,
        "labels": {**observed.get("labels", {}), **desired["labels"]},
        "annotations": {**observed.get("annotations", {}), **desired["annotations"]},
        "ownerReferences": [*others, *desired["ownerReferences"]],
        "resourceVersion": observed.get("resourceVersion", ""),
    }
    finalizers = observed.get("finalizers")
    return {**metadata, "finalizers": finalizers} if finalizers else metadata


def _with_restart(desired: dict[str, Any], observed: dict[str, Any]) -> dict[str, Any]:
    """`kubectl rollout restart` is a wish of the user's: taking it back would restart again."""
    restarted = observed.get("metadata", {}).get("annotations", {}).get(RESTARTED_AT)
    if restarted is None:
        return desired
    metadata = desired["metadata"]
    annotations = {**metadata.get("annotations", {}), RESTARTED_AT: restarted}
    return {**desired, "metadata": {**metadata, "annotations": annotations}}
