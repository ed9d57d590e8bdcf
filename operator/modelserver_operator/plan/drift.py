"""How an observed child differs from what is desired.

We compare only what we set: what the API server defaults or allocates is no difference. What
somebody else added below `spec` is found through managedFields; server-side apply leaves it.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from modelserver_operator.plan.values import Manifest
from modelserver_operator.resources.labels import RESTARTED_AT
from modelserver_operator.scaling.handover import HANDOVER_MANAGER

FIELD_MANAGER = "modelserver-operator"
_NO_STRANGERS = {FIELD_MANAGER, HANDOVER_MANAGER, "kube-controller-manager"}

_ABSENT: Any = object()

# Fields in which false or 0 is not the same as absent; elsewhere the API server drops zero values.
_MEANINGFUL_ZEROS = {
    "automountServiceAccountToken",
    "enableServiceLinks",
    "allowPrivilegeEscalation",
    "readOnlyRootFilesystem",
    "runAsNonRoot",
    "replicas",
    "maxUnavailable",
    "maxSurge",
    "revisionHistoryLimit",
    "terminationGracePeriodSeconds",
    "attempts",
}

# What the API server itself fills in, and which counts as an addition by whoever wrote the object
# whole (`kubectl replace --force`).
_ALLOCATED = {
    "clusterIP",
    "clusterIPs",
    "ipFamilies",
    "ipFamilyPolicy",
    "nodePort",
    "healthCheckNodePort",
    "serviceAccount",
    RESTARTED_AT,
    "replicas",  # where we leave it out, an autoscaler or the gateway writes it, or whoever may
}
_DEFAULTS: Mapping[str, Any] = {
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
    "restartPolicy": "Always",
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "sessionAffinity": "None",
    "internalTrafficPolicy": "Cluster",
    "type": "ClusterIP",
    "protocol": "TCP",
    "scheme": "HTTP",
    "successThreshold": 1,
    "apiVersion": "v1",
}

# Maps that the API writes as a whole: one key more is another value, whoever added it.
_ATOMIC_MAPS = {"selector", "matchLabels", "podSelector", "namespaceSelector", "nodeSelector"}

_LIST_KEYS = ("name", "mountPath", "containerPort", "topologyKey")

# Of routes: the first rule that matches decides, so their order matters, though they have names.
# Who has changed one manages the whole list, and what was put into a rule is seen nowhere else.
_RULE_LISTS = {"http", "rules"}


def differences(desired: Manifest, observed: Manifest) -> Iterator[str]:
    """Paths at which something that we set is missing or has another value."""
    yield from _differences(_set_by_us(desired), _set_by_us(observed), "")
    yield from _missing_owners(desired, observed)


def _set_by_us(manifest: Manifest) -> Manifest:
    body = {k: v for k, v in manifest.items() if k not in {"metadata", "status"}}
    return {**body, "metadata": {"labels": manifest["metadata"].get("labels", {})}}


def _missing_owners(desired: Manifest, observed: Manifest) -> Iterator[str]:
    owners = observed["metadata"].get("ownerReferences", [])
    for owner in desired["metadata"]["ownerReferences"]:
        if not any(not list(_differences(owner, other, "")) for other in owners):
            yield "metadata.ownerReferences"


def _differences(desired: Any, observed: Any, path: str) -> Iterator[str]:
    """Runs for every child of every reconciliation: what is equal as a whole is not looked into."""
    if desired == observed or _is_same_nothing(desired, observed, path):
        return
    if isinstance(desired, dict) and isinstance(observed, dict):
        if path.rpartition(".")[2] in _ATOMIC_MAPS and observed.keys() - desired.keys():
            yield path
        for key, value in desired.items():
            yield from _differences(value, observed.get(key, _ABSENT), _joined(path, key))
    elif isinstance(desired, list):
        yield from _list_differences(desired, observed, path)
    else:
        yield path


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _is_same_nothing(desired: Any, observed: Any, path: str) -> bool:
    if observed is not _ABSENT and observed is not None:
        return False
    if desired is None or desired in ("", [], {}):
        return True
    is_zero = not isinstance(desired, dict | list | str) and not desired
    return is_zero and path.rpartition(".")[2] not in _MEANINGFUL_ZEROS


def _list_differences(desired: list[Any], observed: Any, path: str) -> Iterator[str]:
    if not isinstance(observed, list) or len(observed) != len(desired):
        yield path
        return
    for index, (value, other) in enumerate(_paired(desired, observed, path)):
        yield from _differences(value, other, f"{path}[{_label(value, index)}]")


def _label(item: Any, index: int) -> str:
    return str(item.get("name", index)) if isinstance(item, dict) else str(index)


def _paired(desired: list[Any], observed: list[Any], path: str) -> list[tuple[Any, Any]]:
    """By key where the items have one, because a list-map has no order of its own."""
    key = next((k for k in _LIST_KEYS if _tells(k, desired) and _tells(k, observed)), None)
    if key is None or path.rpartition(".")[2] in _RULE_LISTS:
        return list(zip(desired, observed, strict=True))
    by_key = {item[key]: item for item in observed}
    return [(item, by_key.get(item[key], _ABSENT)) for item in desired]


def _tells(key: str, items: list[Any]) -> bool:
    """Whether the key tells the items apart."""
    if not all(isinstance(item, dict) and key in item for item in items):
        return False
    return len({item[key] for item in items}) == len(items)


def additions(desired: Manifest, observed: Manifest) -> Iterator[str]:
    """Paths below `spec` that others manage and that we do not set."""
    for entry in observed["metadata"].get("managedFields", []):
        if entry.get("manager") in _NO_STRANGERS or entry.get("subresource"):
            continue
        fields = entry.get("fieldsV1", {}).get("f:spec", {})
        yield from _additions(fields, desired.get("spec", {}), observed.get("spec", {}), "spec")


def _additions(fields: Mapping[str, Any], desired: Any, observed: Any, path: str) -> Iterator[str]:
    for field, below in fields.items():
        kind, _, name = field.partition(":")
        if kind not in {"f", "k"}:  # "." is the item itself, "v:" a value of a set
            continue
        if (value := _entry(observed, kind, name)) is _ABSENT:
            continue
        wanted = _entry(desired, kind, name)
        here = f"{path}.{name}"
        if isinstance(below, dict) and below.keys() - {"."}:
            yield from _additions(below, wanted, value, here)
        elif wanted is _ABSENT:
            yield from () if _is_filled_in(name, value) else (here,)
        elif name in _RULE_LISTS and wanted != value:
            yield here


def _entry(container: Any, kind: str, name: str) -> Any:
    """What a step of managedFields leads to: `f:` a field, `k:` the item with these keys."""
    if kind == "f":
        return container.get(name, _ABSENT) if isinstance(container, dict) else _ABSENT
    if not isinstance(container, list):
        return _ABSENT
    keys = json.loads(name)
    return next((item for item in container if _has_keys(item, keys)), _ABSENT)


def _has_keys(item: Any, keys: Mapping[str, Any]) -> bool:
    return isinstance(item, dict) and all(
        item.get(key, _DEFAULTS.get(key)) == value for key, value in keys.items()
    )


def _is_filled_in(name: str, value: Any) -> bool:
    return name in _ALLOCATED or value in ({}, []) or _DEFAULTS.get(name, _ABSENT) == value
