"""The test's own hand on the API server: an administrator with a few short verbs."""

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from devcluster.api import Cluster
from support.waiting import wait_until

type Manifest = dict[str, Any]

_PLURALS = {
    "NetworkPolicy": "networkpolicies",
    "Endpoints": "endpoints",
    "PriorityClass": "priorityclasses",
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
}
_CLUSTER_SCOPED = {
    "Namespace",
    "Node",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "PriorityClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}


def plural_of(kind: str) -> str:
    return _PLURALS.get(kind, f"{kind.lower()}s")


def path_of(manifest: Manifest, *, collection: bool = False) -> str:
    """The path of an object, or of the collection that it is created in."""
    version, kind, metadata = manifest["apiVersion"], manifest["kind"], manifest["metadata"]
    prefix = f"/apis/{version}" if "/" in version else f"/api/{version}"
    if kind not in _CLUSTER_SCOPED:
        prefix += f"/namespaces/{metadata['namespace']}"
    path = f"{prefix}/{plural_of(kind)}"
    return path if collection else f"{path}/{metadata['name']}"


class Kube:
    """Answers are parsed JSON; an answer that is not a success fails the test with its message."""

    def __init__(self, url: str, *, token: str, ca_file: str) -> None:
        tls = ssl.create_default_context(cafile=ca_file)
        headers = {"Authorization": f"Bearer {token}"}
        self.http = httpx.Client(base_url=url, headers=headers, verify=tls, timeout=30)

    @classmethod
    @contextmanager
    def admin_of(cls, cluster: Cluster) -> Iterator["Kube"]:
        kube = cls(cluster.url, token=cluster.admin_token, ca_file=str(cluster.ca_file))
        with kube.http:
            yield kube

    def ask(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """The raw answer, whatever its status."""
        content_type = options.pop("content_type", "application/json")
        content = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type}
        return self.http.request(method, path, content=content, headers=headers, **options)

    def _must(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        answer = self.ask(method, path, body, **options)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def get(self, path: str) -> Any:
        """None where there is nothing."""
        answer = self.ask("GET", path)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        assert answer.is_success, f"GET {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def items(self, path: str, selector: str = "") -> list[Manifest]:
        found = self._must("GET", path, params={"labelSelector": selector} if selector else None)
        return found["items"]

    def version_of(self, path: str) -> str:
        """Of a collection, for a watch to begin with."""
        return str(self._must("GET", path)["metadata"]["resourceVersion"])

    def create(self, manifest: Manifest) -> Manifest:
        return self._must("POST", path_of(manifest, collection=True), manifest)

    def apply(self, manifest: Manifest, manager: str = "test") -> Manifest:
        return self._must(
            "PATCH",
            path_of(manifest),
            manifest,
            content_type="application/apply-patch+yaml",
            params={"fieldManager": manager, "force": "true"},
        )

    def replace(self, path: str, manifest: Manifest) -> Manifest:
        return self._must("PUT", path, manifest)

    def patch(self, path: str, patch: Manifest, kind: str = "merge") -> Manifest:
        """`kind`: merge (RFC 7396), strategic-merge or json."""
        return self._must("PATCH", path, patch, content_type=f"application/{kind}-patch+json")

    def delete(self, path: str, **options: Any) -> None:
        """Without complaint where there is nothing."""
        answer = self.ask("DELETE", path, options or None)
        assert answer.is_success or answer.status_code == httpx.codes.NOT_FOUND, answer.text

    def wait_gone(self, path: str, timeout: float = 30) -> None:
        wait_until(lambda: self.get(path) is None, timeout=timeout, what=f"{path} gone")
