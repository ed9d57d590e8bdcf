"""What `manifests/` installs, as values: to install it beside itself, or with a verb less."""

import copy
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

type Manifest = dict[str, Any]

REPOSITORY = Path(__file__).parents[2]
BASE = REPOSITORY / "manifests" / "base"
_ROLES = ("ClusterRole", "Role")
_BINDINGS = ("ClusterRoleBinding", "RoleBinding")


@dataclass(frozen=True, slots=True, order=True)
class Permission:
    """One verb on one resource, granted in the cluster or in the operator's own namespace."""

    role: str  # ClusterRole or Role
    group: str
    target: str  # resource[/subresource]
    verb: str

    def __str__(self) -> str:
        group = f".{self.group}" if self.group else ""
        return f"{self.verb} {self.target}{group} ({self.role})"


def render(kubectl: Path, folder: Path = BASE) -> list[Manifest]:
    """As `kubectl apply -k` sends them."""
    result = subprocess.run(
        [kubectl, "kustomize", folder], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, f"kubectl kustomize {folder}: {result.stderr}"
    return [manifest for manifest in yaml.safe_load_all(result.stdout) if manifest]


def of_kind(manifests: Iterable[Manifest], *kinds: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def named(manifests: Iterable[Manifest], kind: str, name: str) -> Manifest:
    found = [m for m in of_kind(manifests, kind) if m["metadata"]["name"] == name]
    assert len(found) == 1, f"{len(found)} {kind}s named {name}"
    return found[0]


def permissions(manifests: Iterable[Manifest], account: str) -> set[Permission]:
    """What the roles bound to a ServiceAccount allow."""
    every = list(manifests)
    return {
        Permission(role["kind"], group, target, verb)
        for role in _roles_of(every, account)
        for rule in role["rules"]
        for group in rule.get("apiGroups", [])
        for target in rule.get("resources", [])
        for verb in rule["verbs"]
    }


def _roles_of(manifests: list[Manifest], account: str) -> Iterator[Manifest]:
    for binding in of_kind(manifests, *_BINDINGS):
        if any(subject["name"] == account for subject in binding.get("subjects", [])):
            yield named(manifests, binding["roleRef"]["kind"], binding["roleRef"]["name"])


def without(manifests: Iterable[Manifest], permission: Permission) -> list[Manifest]:
    """The same manifests, in which no role of that kind grants the permission."""
    changed = copy.deepcopy(list(manifests))
    for role in of_kind(changed, permission.role):
        role["rules"] = [kept for rule in role["rules"] for kept in _split(rule, permission)]
    return changed


def _split(rule: Manifest, permission: Permission) -> Iterator[Manifest]:
    """What remains of a rule: the other resources whole, this one without the verb."""
    is_meant = (
        permission.group in rule.get("apiGroups", [])
        and permission.target in rule.get("resources", [])
        and permission.verb in rule["verbs"]
    )
    if not is_meant:
        yield rule
        return
    others = [target for target in rule["resources"] if target != permission.target]
    verbs = [verb for verb in rule["verbs"] if verb != permission.verb]
    if others:
        yield rule | {"resources": others}
    if verbs:
        yield rule | {"resources": [permission.target], "verbs": verbs}


def relocated(manifests: Iterable[Manifest], namespace: str) -> list[Manifest]:
    """An installation of its own in another namespace, with cluster roles of its own name."""
    moved = copy.deepcopy(list(manifests))
    home = of_kind(moved, "Namespace")[0]["metadata"]["name"]
    own_roles = {role["metadata"]["name"] for role in of_kind(moved, "ClusterRole")}
    for manifest in moved:
        _relocate(manifest["metadata"], kind=manifest["kind"], home=home, namespace=namespace)
        if manifest["kind"] in _BINDINGS:
            _rebind(manifest, own_roles, home=home, namespace=namespace)
    return moved


def _relocate(metadata: Manifest, *, kind: str, home: str, namespace: str) -> None:
    if metadata.get("namespace") == home:
        metadata["namespace"] = namespace
    if kind == "Namespace":
        metadata["name"] = namespace
    if kind in {"ClusterRole", "ClusterRoleBinding"}:
        metadata["name"] += f"-{namespace}"


def _rebind(binding: Manifest, own_roles: set[str], *, home: str, namespace: str) -> None:
    for subject in binding.get("subjects", []):
        if subject.get("namespace") == home:
            subject["namespace"] = namespace
    if binding["roleRef"]["name"] in own_roles:
        binding["roleRef"]["name"] += f"-{namespace}"
