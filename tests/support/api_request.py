"""What a request to a Kubernetes API server asks for, read from its method, path and query."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_NAMESPACE_SUBRESOURCES = ("status", "finalize")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRequest:
    """The attributes that RBAC decides by; `resource` is empty for paths such as `/readyz`."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    is_continued: bool = False  # asks for a further page of a list

    @property
    def is_write(self) -> bool:
        return self.verb in WRITES

    @property
    def target(self) -> str:
        """As RBAC writes it: `modelservers/status`."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource

    def __str__(self) -> str:
        return f"{self.verb} {self.target} {self.namespace}/{self.name}"

    @classmethod
    def parse(cls, method: str, path: str, query: Mapping[str, str]) -> Self:
        group, rest = _split_group(path)
        if group is None:
            return cls(verb=method.lower())
        namespace, rest = _split_namespace(rest)
        resource, name, subresource = (*rest, "", "", "")[:3]
        return cls(
            verb=_verb_of(method, name, query),
            group=group,
            resource=resource,
            subresource=subresource,
            namespace=namespace,
            name=name,
            is_continued="continue" in query,
        )


def _split_group(path: str) -> tuple[str | None, list[str]]:
    """The API group (None where the path is not of a resource) and what follows the version."""
    match path.strip("/").split("/"):
        case ["api", _, *rest] if rest:
            return "", rest
        case ["apis", group, _, *rest] if rest:
            return group, rest
    return None, []


def _split_namespace(rest: list[str]) -> tuple[str, list[str]]:
    match rest:
        case ["namespaces", namespace, resource, *_] if resource not in _NAMESPACE_SUBRESOURCES:
            return namespace, rest[2:]
        case ["namespaces", namespace, *_]:
            return namespace, rest
    return "", rest


def _verb_of(method: str, name: str, query: Mapping[str, str]) -> str:
    if method in {"GET", "HEAD"}:
        if query.get("watch", "") in {"true", "1"}:
            return "watch"
        return "get" if name else "list"
    if method == "DELETE" and not name:
        return "deletecollection"
    return _VERBS[method]
