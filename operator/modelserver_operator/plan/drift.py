"""Where an observed object differs from what is desired.

The API server adds defaults and controllers add their own fields, so a map is compared by the keys
that we set, and a list that we set must have exactly our items. What others added inside such maps
is found through `managedFields`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelserver_operator.plan.values import Manifest

FIELD_MANAGER = "modelserver-operator"
DESIRED_HASH = "modelserver.dev/desired-hash"

# Writers whose fields are not drift: ours, and the controllers that write status and bookkeeping.
_EXPECTED_MANAGERS = frozenset({FIELD_MANAGER, "kube-controller-manager", "kube-scheduler"})
# `kubectl rollout restart` sets this one annotation; people rely on it, so it stays.
_RESTARTED_AT = "f:kubectl.kubernetes.io/restartedAt"
# Lists of these fields are maps in the API: the order of their items means nothing.
_KEYED_LISTS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "volumeMounts": ("mountPath",),
    "ports": ("containerPort", "port", "protocol"),
}


def differences(desired: object, observed: object, path: str = "") -> Iterator[str]:
    """Paths of the fields that we set and that are not as we set them."""
    match desired, observed:
        case Mapping(), Mapping():
            for key, value in desired.items():
                yield from differences(value, observed.get(key), f"{path}.{key}")
        case list(), list():
            yield from _list_differences(desired, observed, path)
        case _:
            if not _is_equal(desired, observed):
                yield path


def foreign_fields(observed: Manifest) -> Iterator[str]:
    """Paths outside the status that somebody else has added to the object, and we do not own."""
    entries = [
        entry
        for entry in observed.get("metadata", {}).get("managedFields", ())
        if not entry.get("subresource")
    ]
    ours = {
        path for entry in entries if entry.get("manager") == FIELD_MANAGER for path in _paths(entry)
    }
    for entry in entries:
        if entry.get("manager") not in _EXPECTED_MANAGERS:
            yield from (path for path in _paths(entry) if path not in ours)


def _paths(entry: Mapping[str, Any]) -> Iterator[str]:
    return _leaves(_governed(entry.get("fieldsV1", {})), "")


def _governed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a field set that is ours alone to say."""
    labels = fields.get("f:metadata", {}).get("f:labels", {})
    body = {k: v for k, v in fields.items() if k not in {"f:metadata", "f:status"}}
    return {**body, **({"f:metadata": {"f:labels": labels}} if labels else {})}


def _leaves(fields: Mapping[str, Any], path: str) -> Iterator[str]:
    for key, below in fields.items():
        if key in {".", _RESTARTED_AT}:
            continue
        here = f"{path}.{key.removeprefix('f:')}"
        if any(inner != "." for inner in below):
            yield from _leaves(below, here)
        elif not _holds_restart_only(key, below):
            yield here


def _holds_restart_only(key: str, below: Mapping[str, Any]) -> bool:
    """The empty annotation map that `kubectl rollout restart` leaves as its own."""
    return key == "f:annotations" and set(below) <= {"."}


def _list_differences(desired: Sequence[Any], observed: Sequence[Any], path: str) -> Iterator[str]:
    if len(desired) != len(observed):
        yield path
        return
    keys = _KEYED_LISTS.get(path.rpartition(".")[2].partition("[")[0], ())
    ours, theirs = _ordered(desired, keys), _ordered(observed, keys)
    for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        yield from differences(one, other, f"{path}[{index}]")


def _ordered(items: Sequence[Any], keys: tuple[str, ...]) -> Sequence[Any]:
    if not keys or not all(isinstance(item, Mapping) for item in items):
        return items
    return sorted(items, key=lambda item: [str(item.get(key, "")) for key in keys])


def _is_equal(desired: object, observed: object) -> bool:
    """An empty map or list that we set may come back as an absent field."""
    if desired in ({}, [], "", None, False) and observed is None:
        return True
    return bool(desired == observed)
