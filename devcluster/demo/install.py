"""Installs CRD, RBAC and operator from manifests/, with the images that were built."""

import json
from collections.abc import Mapping
from pathlib import Path

from devcluster.demo.failure import DemoFailure
from devcluster.demo.kubectl import Kubectl

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "modelserver-system"
OPERATOR = "modelserver-operator"


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
    overlay = _write_overlay(operator_image, environment)
    kubectl.run("apply", "--server-side", "--force-conflicts", "-k", str(overlay))
    kubectl.run("wait", "--for=condition=Established", "crd/modelservers.modelserver.dev")
    _wait_available(kubectl)


def _wait_available(kubectl: Kubectl) -> None:
    deployment = f"deployment/{OPERATOR}"
    try:
        kubectl.run("-n", NAMESPACE, "rollout", "status", deployment, "--timeout", "120s")
    except DemoFailure as failure:
        log = kubectl.run("-n", NAMESPACE, "logs", deployment, "--tail", "15")
        raise DemoFailure(f"{failure}\nthe operator's last words:\n{log}") from failure


def uninstall(kubectl: Kubectl) -> None:
    kubectl.run("delete", "--ignore-not-found", "-k", str(ROOT / "manifests" / "base"))


def _write_overlay(operator_image: str, environment: Mapping[str, str]) -> Path:
    folder = ROOT / "build" / "install"
    folder.mkdir(parents=True, exist_ok=True)
    document = json.dumps(_kustomization(operator_image, environment), indent=2)
    (folder / "kustomization.yaml").write_text(document)
    return folder


def _kustomization(operator_image: str, environment: Mapping[str, str]) -> dict[str, object]:
    variables = [{"name": name, "value": value} for name, value in environment.items()]
    container = {"name": "operator", "image": operator_image, "env": variables}
    patch = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": OPERATOR, "namespace": NAMESPACE},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }
    return {"resources": ["../../manifests/base"], "patches": [{"patch": json.dumps(patch)}]}
