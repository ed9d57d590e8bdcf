"""The operator's manifests, installed for a process on this machine instead of a pod."""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from support.kube import Kube, path_of
from support.manifests import (
    Manifest,
    Permission,
    of_kind,
    permissions,
    relocated,
    without,
)
from support.waiting import wait_until

TOKEN_SECONDS = 3600
_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_NOT_A_PROCESS = ("Deployment", "PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor")


@dataclass(slots=True)
class Installation:
    """An operator's namespace, ServiceAccount and roles; CRDs are shared by all of them."""

    kube: Kube
    manifests: list[Manifest]
    namespace: str

    @classmethod
    def make(cls, kube: Kube, manifests: list[Manifest], namespace: str) -> "Installation":
        made = cls(kube, relocated(manifests, namespace), namespace)
        for manifest in made.manifests:
            if manifest["kind"] not in _NOT_A_PROCESS:
                kube.apply(manifest)
        return made

    def remove(self) -> None:
        for manifest in reversed(self.manifests):
            if manifest["kind"] not in {*_NOT_A_PROCESS, "CustomResourceDefinition"}:
                self.kube.delete(path_of(manifest))

    @property
    def deployment(self) -> Manifest:
        return of_kind(self.manifests, "Deployment")[0]

    @property
    def container(self) -> Manifest:
        return self.deployment["spec"]["template"]["spec"]["containers"][0]

    @property
    def account(self) -> str:
        return self.deployment["spec"]["template"]["spec"]["serviceAccountName"]

    @property
    def user(self) -> str:
        """As RBAC and the audit log call it."""
        return f"system:serviceaccount:{self.namespace}:{self.account}"

    def token(self) -> str:
        """A new one, by TokenRequest; it holds for an hour."""
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{self.account}/token"
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": TOKEN_SECONDS},
        }
        answer = self.kube.ask("POST", path, body)
        assert answer.is_success, answer.text
        return answer.json()["status"]["token"]

    def permissions(self) -> set[Permission]:
        return permissions(self.manifests, self.account)

    def withdraw(self, permission: Permission) -> None:
        """Takes one verb away, and waits until the API server obeys."""
        for role in of_kind(without(self.manifests, permission), permission.role):
            self._put(role)
        wait_until(lambda: not self.may(permission), timeout=30, what=f"{permission} withdrawn")

    def restore(self) -> None:
        for role in of_kind(self.manifests, "ClusterRole", "Role"):
            self._put(role)

    def may(self, permission: Permission) -> bool:
        """What the API server would answer now; its knowledge of roles lags behind a write."""
        resource, _, subresource = permission.target.partition("/")
        asked = {"group": permission.group, "resource": resource, "subresource": subresource}
        within = {"namespace": self.namespace} if permission.role == "Role" else {}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": self.user,
                "resourceAttributes": asked | within | {"verb": permission.verb},
            },
        }
        answer = self.kube.ask("POST", _REVIEWS, body)
        assert answer.is_success, answer.text
        return answer.json()["status"]["allowed"]

    def _put(self, role: Manifest) -> None:
        self.kube.replace(path_of(role), role)


def environment_of(container: Manifest, *, namespace: str, identity: str) -> dict[str, str]:
    """The container's variables, with what the downward API would fill in."""
    downward = {
        "metadata.namespace": namespace,
        "metadata.name": identity,
        "spec.serviceAccountName": "",
        "status.podIP": "127.0.0.1",
    }
    variables = {}
    for variable in container.get("env", []):
        field = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
        variables[variable["name"]] = downward[field] if field else variable.get("value", "")
    return variables


def write_secretly(path: Path, content: str) -> None:
    """Replaces the file in one step, as the kubelet does with a renewed token."""
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    fresh.touch(mode=0o600)
    fresh.write_text(content)
    os.replace(fresh, path)  # noqa: PTH105  the atomic one


def install_definitions(kube: Kube, manifests: list[Manifest]) -> None:
    """Installs the CRDs and waits until the API server serves their kinds.

    Best before the controllers start: the garbage collector looks for new kinds every 30 s only.
    """
    for definition in of_kind(manifests, "CustomResourceDefinition"):
        kube.apply(definition)
        spec = definition["spec"]
        path = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
        wait_until(
            lambda path=path: kube.ask("GET", path).is_success,
            timeout=120,
            what=f"{path} served",
            interval=0.05,
        )
