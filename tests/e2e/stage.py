"""What rollouts are played on: ModelServers of one namespace of a real cluster."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import yaml

from devcluster.demo import install
from devcluster.demo.clusters import DevelopmentCluster
from e2e.rollout_play import PROGRAM, STAND_IN
from support.waiting import wait_until

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@contextmanager
def borrowed_cluster(name):
    """$DEVCLUSTER_NAME, or this. Stays up if it was up before; otherwise it is taken down."""
    name = os.environ.get("DEVCLUSTER_NAME", name)
    found_running = is_running(name)
    made = DevelopmentCluster(name=name)
    try:
        yield made
    finally:
        if not found_running and not os.environ.get("KEEP_CLUSTER"):
            made.down()


def is_running(name):
    command = [sys.executable, "-m", "devcluster", "status", "--name", name]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def fresh_namespace(kubectl, name):
    """Under Pod Security "restricted"."""
    kubectl.run("delete", "namespace", name, "--ignore-not-found", "--wait")
    metadata = {"name": name, "labels": RESTRICTED}
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
    kubectl.run("apply", "-f", "-", stdin=json.dumps(manifest))


class Servers:
    """ModelServers of one test; each is deleted when the test ends."""

    def __init__(self, kubectl, namespace):
        self.kubectl = kubectl
        self.namespace = namespace
        self.names = set()

    def run(self, *arguments, **options):
        return self.kubectl.run("-n", self.namespace, *arguments, **options)

    def apply(self, name, spec):
        self.names.add(name)
        manifest = {
            "apiVersion": "modelserver.dev/v1alpha1",
            "kind": "ModelServer",
            "metadata": {"name": name},
            "spec": spec,
        }
        self.run("apply", "-f", "-", stdin=yaml.safe_dump(manifest))

    def get(self, *arguments):
        return self.kubectl.get("-n", self.namespace, *arguments)

    def children(self, name):
        """Everything that exists for the server, as `Kind/name`."""
        kinds = (
            "deployments,replicasets,pods,services,endpointslices,serviceaccounts,"
            "controllerrevisions,poddisruptionbudgets,networkpolicies,jobs"
        )
        found = self.get(kinds, "-l", f"modelserver.dev/server={name}") or {"items": []}
        return sorted(f"{item['kind']}/{item['metadata']['name']}" for item in found["items"])

    def condition(self, name, kind):
        server = self.get("modelserver", name) or {}
        conditions = server.get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == kind), {})

    def wait_ready(self, name, timeout=180):
        def is_ready():
            server = self.get("modelserver", name)
            ready = self.condition(name, "Ready")
            current = ready.get("observedGeneration") == server["metadata"]["generation"]
            return current and ready.get("status") == "True"

        wait_until(is_ready, timeout=timeout, what=f"{name} Ready", interval=0.5)
        return self.get("modelserver", name)

    def wait_diagnosis(self, name, code, timeout=180):
        def diagnosed():
            server = self.get("modelserver", name) or {}
            diagnosis = server.get("status", {}).get("diagnosis", {})
            return diagnosis if diagnosis.get("code") == code else None

        return wait_until(diagnosed, timeout=timeout, what=f"{name} diagnosed {code}", interval=0.5)

    def url(self, name):
        return f"http://{self.get('service', name)['spec']['clusterIP']}"

    def delete(self, name):
        self.run("delete", "modelserver", name, "--ignore-not-found", "--wait")
        self.names.discard(name)


def stand_in(servers, images):
    """What a ModelServer of the stand-in asks for; its program and its claim are made."""
    program = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": STAND_IN},
               "data": {PROGRAM.name: PROGRAM.read_text()}}  # fmt: skip
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": STAND_IN},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Mi"}},
        },
    }
    for manifest in (program, claim):
        servers.run("apply", "-f", "-", stdin=json.dumps(manifest))
    container = {
        "name": "server",
        "command": ["python3", f"/program/{PROGRAM.name}"],
        "volumeMounts": [{"name": "program", "mountPath": "/program"}],
    }
    volume = {"name": "program", "configMap": {"name": STAND_IN}}
    return {
        "model": {"uri": f"pvc://{STAND_IN}"},
        "engine": "Custom",
        "runtime": {"image": images.runtime, "drainSeconds": 20},
        "replicas": 2,
        "podTemplate": {"spec": {"containers": [container], "volumes": [volume]}},
    }


def operator_pids(kubectl):
    """Host processes of the operator's pods, found by the pods' uids in their cgroups."""
    pods = kubectl.get(
        "-n", install.NAMESPACE, "pods", "-l", "app.kubernetes.io/name=modelserver-operator"
    )
    uids = [pod["metadata"]["uid"] for pod in pods["items"]]
    return [
        int(process.name) for process in Path("/proc").glob("[0-9]*") if is_operator(process, uids)
    ]


def is_operator(process, uids):
    try:
        cgroup = (process / "cgroup").read_text()
        command = (process / "cmdline").read_bytes()
    except OSError:
        return False
    return b"modelserver-operator" in command and any(uid in cgroup for uid in uids)
