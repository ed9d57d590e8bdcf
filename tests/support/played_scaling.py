"""What scaling needs on a cluster without a node: numbers of pods' use, and a gateway's pod."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support.kube import Kube
from support.waiting import wait_until

type Manifest = dict[str, Any]

GATEWAY = "modelserver-gateway"
_NAME = "pods.metrics.k8s.io"
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

# metrics.k8s.io, as metrics-server would serve it, but without numbers.
_RESOURCE_METRICS: Manifest = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": _NAME,
        "annotations": {"api-approved.kubernetes.io": "unapproved, played by a test"},
    },
    "spec": {
        "group": "metrics.k8s.io",
        "scope": "Namespaced",
        "names": {"plural": "pods", "kind": "PodMetrics"},
        "versions": [
            {
                "name": "v1beta1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object"}},
            }
        ],
    },
}
_CONFINED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@contextmanager
def resource_metrics(kube: Kube) -> Iterator[None]:
    kube.create(_RESOURCE_METRICS)
    yield
    kube.delete(f"{_DEFINITIONS}/{_NAME}")
    kube.wait_gone(f"{_DEFINITIONS}/{_NAME}")


@contextmanager
def gateway_pod(kube: Kube, namespace: str = "modelserver-system") -> Iterator[str]:
    """One that is ready, by its address."""
    path = f"/api/v1/namespaces/{namespace}/pods/{GATEWAY}-0"
    container = {"name": "gateway", "image": "gateway:1", "securityContext": _CONFINED}
    labels = {"app.kubernetes.io/name": GATEWAY}
    metadata = {"name": f"{GATEWAY}-0", "namespace": namespace, "labels": labels}
    spec = {"containers": [container]}
    kube.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    yield wait_until(lambda: _address(kube, path), timeout=30, what="the gateway's pod")
    kube.delete(path)
    kube.wait_gone(path)


def _address(kube: Kube, path: str) -> str:
    return str((kube.get(path) or {}).get("status", {}).get("podIP", ""))
