"""The test hub, as a pod of the cluster that serves the trained model as a repository."""

import json
from pathlib import Path

import httpx
import yaml

SUPPORT = Path(__file__).resolve().parents[1] / "support"
NAME = "hub"
REPOSITORY = "tests/quickstart"
GATED = "tests/gated"
TOKEN = "hf_e2e_token"


class HubPod:
    """Faults are set over HTTP from here; `seen` by pods as http://hub.<namespace>.svc."""

    def __init__(self, servers, image, claim):
        self._servers = servers
        self._image = image
        self._claim = claim

    def start(self):
        self._servers.run("apply", "-f", "-", stdin=yaml.safe_dump_all(self._manifests()))
        self._servers.run("rollout", "status", f"deployment/{NAME}", "--timeout=120s")

    @property
    def url(self):
        return f"http://{self._servers.get('service', NAME)['spec']['clusterIP']}"

    def fail_with(self, **fault):
        httpx.post(f"{self.url}/_faults", content=json.dumps([fault])).raise_for_status()

    def recover(self):
        httpx.delete(f"{self.url}/_faults").raise_for_status()

    def go_down(self):
        self._servers.run("scale", f"deployment/{NAME}", "--replicas=0")
        self._servers.run("wait", "pod", "-l", f"app={NAME}", "--for=delete", "--timeout=90s")

    def come_back(self):
        self._servers.run("scale", f"deployment/{NAME}", "--replicas=1")
        self._servers.run("rollout", "status", f"deployment/{NAME}", "--timeout=120s")

    def _manifests(self):
        sources = {name: (SUPPORT / name).read_text() for name in
                   ("hub.py", "hub_api.py", "hub_contents.py")}  # fmt: skip
        labels = {"app": NAME}
        port = {"port": 80, "targetPort": 8000}
        return [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME}, "data": sources},
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": NAME},
                "spec": {"selector": labels, "ports": [port]},
            },
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": NAME},
                "spec": {
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": self._pod()},
                },
            },
        ]

    def _pod(self):
        command = ["python", "-m", "support.hub", "--dir", "/repositories", "--port", "8000",
                   "--token", TOKEN, "--gated", GATED]  # fmt: skip
        confined = {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        mounts = [
            {"name": "sources", "mountPath": "/scripts/support"},
            {"name": "model", "mountPath": f"/repositories/{REPOSITORY}", "readOnly": True},
            {"name": "model", "mountPath": f"/repositories/{GATED}", "readOnly": True},
        ]
        container = {
            "name": NAME,
            "image": self._image,
            "command": command,
            "workingDir": "/scripts",
            "volumeMounts": mounts,
            "securityContext": confined,
            "readinessProbe": {
                "httpGet": {"path": f"/api/models/{REPOSITORY}", "port": 8000},
                "periodSeconds": 1,
            },
        }
        return {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [
                {"name": "sources", "configMap": {"name": NAME}},
                {"name": "model", "persistentVolumeClaim": {"claimName": self._claim}},
            ],
        }
