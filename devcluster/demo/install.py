"""Installs CRD, RBAC and operator from manifests/, with the images that were built."""

import json
from collections.abc import Mapping
from pathlib import Path

from devcluster.demo.failure import DemoFailure
from devcluster.demo.kubectl import Kubectl

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "modelserver-system"
OPERATOR = "modelserver-operator"
GATEWAY = "modelserver-gateway"


def install(
    kubectl: Kubectl,
    *,
    operator_image: str,
    runtime_image: str,
    settings: Mapping[str, str] | None = None,
) -> None:
    """Applies the installation; returns when the new operator is available.

    `settings` are more environment variables of the operator.
    """
    environment = {"MODELSERVER_OPERATOR_RUNTIME_IMAGE": runtime_image, **(settings or {})}
    patch = _deployment_patch(OPERATOR, "operator", operator_image, environment)
    overlay = _write_overlay("install", "base", patch)
    kubectl.run("apply", "--server-side", "--force-conflicts", "-k", str(overlay))
    kubectl.run("wait", "--for=condition=Established", "crd/modelservers.modelserver.dev")
    _wait_available(kubectl, OPERATOR)


def install_gateway(
    kubectl: Kubectl, *, image: str, settings: Mapping[str, str] | None = None
) -> None:
    """Beside the operator; returns when all of its pods are available.

    `image` is the runtime's; `settings` are more environment variables of the gateway.
    """
    patch = _deployment_patch(GATEWAY, "gateway", image, settings or {})
    overlay = _write_overlay("install-gateway", "gateway", patch)
    kubectl.run("apply", "--server-side", "--force-conflicts", "-k", str(overlay))
    _wait_available(kubectl, GATEWAY)


def _wait_available(kubectl: Kubectl, name: str) -> None:
    deployment = f"deployment/{name}"
    try:
        kubectl.run("-n", NAMESPACE, "rollout", "status", deployment, "--timeout", "120s")
    except DemoFailure as failure:
        log = kubectl.run("-n", NAMESPACE, "logs", deployment, "--tail", "15")
        raise DemoFailure(f"{failure}\nthe last words of {name}:\n{log}") from failure


def uninstall(kubectl: Kubectl) -> None:
    kubectl.run("delete", "--ignore-not-found", "-k", str(ROOT / "manifests" / "base"))


def _write_overlay(folder_name: str, manifests: str, patch: Mapping[str, object]) -> Path:
    folder = ROOT / "build" / folder_name
    folder.mkdir(parents=True, exist_ok=True)
    resources = [f"../../manifests/{manifests}"]
    document = {"resources": resources, "patches": [{"patch": json.dumps(patch)}]}
    (folder / "kustomization.yaml").write_text(json.dumps(document, indent=2))
    return folder


def _deployment_patch(
    name: str, container_name: str, image: str, environment: Mapping[str, str]
) -> dict[str, object]:
    variables = [{"name": key, "value": value} for key, value in environment.items()]
    container = {"name": container_name, "image": image, "env": variables}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }
