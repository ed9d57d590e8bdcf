"""The state of a ModelServer and its children without what differs between equal states.

Two servers that were treated the same have the same snapshot, whatever happened on the way: names,
uids, versions, addresses and times are left out, everything else is compared.
"""

import json
from typing import Any

type Manifest = dict[str, Any]

NAME = "NAME"
NAMESPACE = "NAMESPACE"
_METADATA = {
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "managedFields",
    "generation",
    "namespace",
    "selfLink",
}
_ADDRESSES = {"clusterIP", "clusterIPs", "nodePort"}
_VARYING_LABELS = {"batch.kubernetes.io/controller-uid", "controller-uid"}
_VARYING_ANNOTATIONS = {
    "deployment.kubernetes.io/revision",  # the Deployment controller's count
    "modelserver.dev/desired-hash",  # of a manifest that holds name and uid
}
_TIMES = ("Time", "Since", "Timestamp")


def snapshot_of(server: Manifest | None, children: list[Manifest], name: str) -> Manifest:
    """`server` None: it is gone."""
    found = {f"{c['kind']}/{c['metadata']['name']}": normalised_child(c) for c in children}
    everything = {"server": _without_times(_spec_and_status(server)), "children": found}
    text = json.dumps(everything, sort_keys=True)
    for namespace in _namespaces(server, children):
        text = text.replace(f".{namespace}.svc", f".{NAMESPACE}.svc")
    return json.loads(text.replace(name, NAME))


def _namespaces(server: Manifest | None, children: list[Manifest]) -> set[str]:
    objects = [*children, *([server] if server else [])]
    return {one["metadata"].get("namespace", "") for one in objects} - {""}


def _spec_and_status(server: Manifest | None) -> Manifest:
    if server is None:
        return {}
    generation = server["metadata"]["generation"]
    status = _with_generation(server.get("status", {}), generation)
    return {"spec": server["spec"], "status": status}


def _with_generation(value: Any, generation: int) -> Any:
    """Which generation was observed does not matter, but whether it is the latest does."""
    match value:
        case dict():
            return {
                k: (
                    v == generation
                    if k == "observedGeneration"
                    else _with_generation(v, generation)
                )
                for k, v in value.items()
            }
        case list():
            return [_with_generation(item, generation) for item in value]
    return value


def normalised_child(child: Manifest) -> Manifest:
    """Without its status: that is the business of other controllers."""
    kept = {k: v for k, v in child.items() if k not in {"metadata", "status"}}
    return _without_varying(kept) | {"metadata": _metadata(child["metadata"])}


def _metadata(metadata: Manifest) -> Manifest:
    kept = {k: v for k, v in metadata.items() if k not in _METADATA}
    kept["labels"] = _except(metadata.get("labels", {}), _VARYING_LABELS)
    kept["annotations"] = _except(metadata.get("annotations", {}), _VARYING_ANNOTATIONS)
    kept["ownerReferences"] = [
        _except(owner, {"uid"}) for owner in metadata.get("ownerReferences", [])
    ]
    return kept


def _except(mapping: Manifest, keys: set[str]) -> Manifest:
    return {k: v for k, v in mapping.items() if k not in keys}


def _without_varying(value: Any) -> Any:
    match value:
        case dict():
            kept = _except(value, _ADDRESSES | _VARYING_LABELS | {"creationTimestamp"})
            return {k: _without_varying(v) for k, v in kept.items()}
        case list():
            return [_without_varying(item) for item in value]
    return value


def _without_times(value: Any) -> Any:
    match value:
        case dict():
            return {k: _without_times(v) for k, v in value.items() if not k.endswith(_TIMES)}
        case list():
            return [_without_times(item) for item in value]
    return value


def difference(expected: Any, found: Any, path: str = "") -> list[str]:
    """Where two snapshots differ, one line each."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return [
            line
            for key in sorted(expected.keys() | found.keys())
            for line in _difference_at(expected, found, key, f"{path}/{key}")
        ]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = enumerate(zip(expected, found, strict=True))
        return [line for i, (a, b) in pairs for line in difference(a, b, f"{path}/{i}")]
    return [] if expected == found else [f"{path}: expected {expected!r}, found {found!r}"]


def _difference_at(expected: Manifest, found: Manifest, key: str, path: str) -> list[str]:
    if key not in found:
        return [f"{path}: missing"]
    if key not in expected:
        return [f"{path}: not expected: {str(found[key])[:200]}"]
    return difference(expected[key], found[key], path)
