"""The ModelServers of one namespace, as a test handles them."""

from typing import Any

import httpx

from support.kube import Kube
from support.snapshot import snapshot_of
from support.waiting import wait_until

type Manifest = dict[str, Any]

SERVER_LABEL = "modelserver.dev/server"
REVISION_LABEL = "modelserver.dev/revision"
MANAGER = "modelserver-operator"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER_COMMIT = "89abcdef0123456789abcdef0123456789abcdef"

# Where the kinds of children live, and the word by which their items lack `kind` in lists.
CHILD_COLLECTIONS = {
    "ControllerRevision": "/apis/apps/v1/namespaces/{}/controllerrevisions",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "Service": "/api/v1/namespaces/{}/services",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "HorizontalPodAutoscaler": "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
}


def pinned(**more: Any) -> Manifest:
    """A spec whose model names its commit, so that nothing has to be resolved."""
    return {"model": {"uri": "hf://example/tiny", "revision": COMMIT}, **more}


def unpinned(**more: Any) -> Manifest:
    return {"model": {"uri": "hf://example/tiny", "revision": "main"}, **more}


class Servers:
    """Plain calls; what has to be waited for is waited for."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace

    @property
    def collection(self) -> str:
        return f"/apis/modelserver.dev/v1alpha1/namespaces/{self.namespace}/modelservers"

    def path(self, name: str) -> str:
        return f"{self.collection}/{name}"

    def manifest(self, name: str, spec: Manifest) -> Manifest:
        return {
            "apiVersion": "modelserver.dev/v1alpha1",
            "kind": "ModelServer",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": spec,
        }

    def create(self, name: str, spec: Manifest | None = None) -> Manifest:
        return self.kube.create(self.manifest(name, spec or pinned()))

    def patch(self, name: str, spec: Manifest) -> Manifest:
        return self.kube.patch(self.path(name), {"spec": spec})

    def delete(self, name: str) -> None:
        self.kube.delete(self.path(name))

    def get(self, name: str) -> Manifest:
        found = self.kube.get(self.path(name))
        assert found is not None, f"no ModelServer {self.namespace}/{name}"
        return found

    def status(self, name: str) -> Manifest:
        return (self.kube.get(self.path(name)) or {}).get("status", {})

    def condition(self, name: str, kind: str) -> Manifest:
        conditions = self.status(name).get("conditions", [])
        return next((one for one in conditions if one["type"] == kind), {})

    # -- children --------------------------------------------------------------------------------

    def child_path(self, kind: str, name: str) -> str:
        return f"{CHILD_COLLECTIONS[kind].format(self.namespace)}/{name}"

    def child(self, kind: str, name: str) -> Manifest | None:
        return self.kube.get(self.child_path(kind, name))

    def children(self, name: str) -> list[Manifest]:
        """What bears the server's label, whoever owns it."""
        return [
            item | {"kind": kind}
            for kind, collection in CHILD_COLLECTIONS.items()
            for item in self.kube.items(collection.format(self.namespace), f"{SERVER_LABEL}={name}")
        ]

    def child_names(self, name: str) -> list[str]:
        return sorted(f"{c['kind']}/{c['metadata']['name']}" for c in self.children(name))

    def pods(self, name: str) -> list[Manifest]:
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        return self.kube.items(path, f"{SERVER_LABEL}={name}")

    def events(self, name: str) -> list[Manifest]:
        found = self.kube.items(f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events")
        return [
            event
            for event in found
            if event["regarding"]["kind"] == "ModelServer" and event["regarding"]["name"] == name
        ]

    def snapshot(self, name: str) -> Manifest:
        server = self.kube.get(self.path(name))
        return snapshot_of(server, self.children(name), name)

    # -- waiting ---------------------------------------------------------------------------------

    def is_current(self, name: str, kind: str, status: str) -> bool:
        """The condition says so about the latest generation."""
        server = self.kube.get(self.path(name)) or {}
        return any(
            condition["type"] == kind
            and condition["status"] == status
            and condition["observedGeneration"] == server["metadata"]["generation"]
            for condition in server.get("status", {}).get("conditions", [])
        )

    def wait_condition(self, name: str, kind: str, status: str, timeout: float = 60) -> Manifest:
        def look() -> bool:
            return self.is_current(name, kind, status)

        try:
            wait_until(look, timeout=timeout, what=f"{name} {kind}={status}", interval=0.05)
        except AssertionError as e:
            raise AssertionError(f"{e}; status: {self.status(name)}") from e
        return self.get(name)

    def wait_ready(self, name: str, timeout: float = 60) -> Manifest:
        return self.wait_condition(name, "Ready", "True", timeout)

    def wait_settled(self, name: str, timeout: float = 60) -> Manifest:
        """Ready, and no change of revision going on."""
        self.wait_ready(name, timeout)
        return self.wait_condition(name, "Progressing", "False", timeout)

    def wait_diagnosis(self, name: str, code: str, timeout: float = 60) -> Manifest:
        def look() -> Manifest | None:
            diagnosis = self.status(name).get("diagnosis", {})
            return diagnosis if diagnosis.get("code") == code else None

        try:
            return wait_until(look, timeout=timeout, what=f"diagnosis {code}", interval=0.05)
        except AssertionError as e:
            raise AssertionError(f"{e}; status: {self.status(name)}") from e

    def wait_gone(self, name: str, timeout: float = 60) -> None:
        """The server and everything that bears its label."""

        def is_gone() -> bool:
            server = self.kube.ask("GET", self.path(name)).status_code
            is_there = server != httpx.codes.NOT_FOUND
            return not is_there and not self.children(name) and not self.pods(name)

        try:
            wait_until(is_gone, timeout=timeout, what=f"{name} gone", interval=0.1)
        except AssertionError as e:
            left = self.child_names(name)
            raise AssertionError(f"{e}; left: {left}") from e
