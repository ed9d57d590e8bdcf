"""The demo's model: from the hub where it answers, else trained in the cluster."""

import hashlib
import json
import socket
from pathlib import Path
from typing import Any

import yaml

from devcluster.demo.kubectl import Kubectl

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
HUB = ("huggingface.co", 443)
CLAIM = "quickstart-model"
JOB = "train-quickstart-model"
INPUTS = "modelserver.dev/inputs"


def hub_answers(timeout_seconds: float = 3.0) -> bool:
    try:
        socket.create_connection(HUB, timeout=timeout_seconds).close()
    except OSError:
        return False
    return True


def example(name: str) -> str:
    return (EXAMPLES / name).read_text()


def train_in_cluster(kubectl: Kubectl, namespace: str, image: str) -> None:
    """Trains the example model in a Job that writes to the claim; shows the Job's log.

    A Job with the same scripts is waited for, or found complete; another one is replaced.
    """
    job = _job_of_same_scripts(kubectl, namespace)
    if _has_condition(job, "Complete"):
        return
    if not job or _has_condition(job, "Failed"):
        _start(kubectl, namespace, image)
    kubectl.run(
        "-n", namespace, "wait", "pod", "-l", f"job-name={JOB}", "--timeout=300s",
        "--for=jsonpath={.status.containerStatuses[0].started}=true",
    )  # fmt: skip
    kubectl.stream("-n", namespace, "logs", "-f", f"job/{JOB}")
    kubectl.run("-n", namespace, "wait", f"job/{JOB}", "--for=condition=Complete", "--timeout=60s")


def is_trained(kubectl: Kubectl, namespace: str) -> bool:
    return _has_condition(_job_of_same_scripts(kubectl, namespace), "Complete")


def _job_of_same_scripts(kubectl: Kubectl, namespace: str) -> dict[str, Any]:
    job = kubectl.get("-n", namespace, "job", JOB) or {}
    is_same = job.get("metadata", {}).get("annotations", {}).get(INPUTS) == _inputs()
    return job if is_same else {}


def _start(kubectl: Kubectl, namespace: str, image: str) -> None:
    kubectl.run("-n", namespace, "delete", "job", JOB, "--ignore-not-found", "--wait")
    kubectl.run("-n", namespace, "apply", "--server-side", "-f", "-", stdin=_manifests(image))


def _has_condition(job: dict[str, Any], kind: str) -> bool:
    conditions = job.get("status", {}).get("conditions", [])
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)


def _inputs() -> str:
    """What the trained model depends on; the image is not part of it."""
    return hashlib.sha256(json.dumps(_scripts()).encode()).hexdigest()[:16]


def _manifests(image: str) -> str:
    return yaml.safe_dump_all([_claim(), _scripts(), _job(image)])


def _claim() -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def _scripts() -> dict[str, object]:
    files = sorted((EXAMPLES / "quickstart_model").glob("*.py"))
    data = {path.name: path.read_text() for path in files}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": JOB}, "data": data}


def _job(image: str) -> dict[str, object]:
    template = json.loads((Path(__file__).parent / "train_job.json").read_text())
    template["metadata"] = {"name": JOB, "annotations": {INPUTS: _inputs()}}
    pod = template["spec"]["template"]["spec"]
    pod["containers"][0]["image"] = image
    pod["volumes"][0]["configMap"]["name"] = JOB
    pod["volumes"][1]["persistentVolumeClaim"]["claimName"] = CLAIM
    return dict(template)
