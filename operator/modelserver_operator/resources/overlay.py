"""Laying the user's part of a pod's spec over ours, like a strategic merge patch."""

from collections.abc import Mapping, Sequence
from typing import Any

# Lists of a pod's spec whose items have a name of some kind; all other lists are replaced.
MERGE_KEYS: Mapping[str, str] = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "resourceClaims": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "hostAliases": "ip",
}


def overlaid(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """`overlay` wins; null takes a field away; nothing of either argument is shared or changed."""
    result = {key: _copied(value) for key, value in base.items()}
    for key, value in overlay.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(key, result.get(key), value)
    return result


def _merged(field: str, ours: Any, theirs: Any) -> Any:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return overlaid(ours, theirs)
    key = MERGE_KEYS.get(field)
    if key and _is_keyed(ours, key) and _is_keyed(theirs, key):
        return _merged_items(ours, theirs, key)
    return _copied(theirs)


def _is_keyed(items: Any, key: str) -> bool:
    """Whether the key tells all items apart; if not, the API server will say what is wrong."""
    if not isinstance(items, list | tuple):
        return False
    keys = [item.get(key) if isinstance(item, dict) else None for item in items]
    return all(isinstance(one, str | int) for one in keys) and len(set(keys)) == len(keys)


def _merged_items(
    ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]], key: str
) -> list[Any]:
    over = {item[key]: item for item in theirs}
    ours_keys = {item[key] for item in ours}
    merged = [overlaid(item, over.get(item[key], {})) for item in ours]
    return merged + [_copied(item) for item in theirs if item[key] not in ours_keys]


def _copied(value: Any) -> Any:
    """A deep copy without nulls, which the API server would not keep."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_copied(item) for item in value]
    return value
