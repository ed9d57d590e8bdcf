"""A real Kubernetes with the operator from the real manifests and both real images."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from devcluster.demo import install, model
from devcluster.demo.clusters import DevelopmentCluster
from e2e.rollout_play import PROGRAM, STAND_IN, watching
from support.waiting import wait_until

NAMESPACE = "modelserver-e2e"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/e2e" in str(item.path):
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(600))


def is_running(name: str) -> bool:
    command = [sys.executable, "-m", "devcluster", "status", "--name", name]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="session")
def cluster():
    """Stays up if it was up before; otherwise it is taken down at the end."""
    name = os.environ.get("DEVCLUSTER_NAME", "dev")
    found_running = is_running(name)
    made = DevelopmentCluster(name=name)
    yield made
    if not found_running and not os.environ.get("KEEP_CLUSTER"):
        made.down()


@pytest.fixture(scope="session")
def kubectl(cluster):
    return cluster.up()


@pytest.fixture(scope="session")
def images(cluster, kubectl):
    return cluster.images()


@pytest.fixture(scope="session")
def operator(kubectl, images):
    """The operator, installed by the manifests, under its own ServiceAccount."""
    settings = {"MODELSERVER_OPERATOR_HUB_ENDPOINT": f"http://hub.{NAMESPACE}.svc"}
    install.install(
        kubectl,
        operator_image=images.operator,
        runtime_image=images.runtime,
        settings=settings,
    )
    return install.NAMESPACE


@pytest.fixture(scope="session")
def namespace(kubectl, operator):
    """A fresh namespace under Pod Security "restricted", deleted at the end."""
    kubectl.run("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait")
    manifest = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": RESTRICTED},
    }
    kubectl.run("apply", "-f", "-", stdin=json.dumps(manifest))
    yield NAMESPACE
    kubectl.run("delete", "namespace", NAMESPACE, "--wait")


@pytest.fixture(scope="session")
def trained_claim(kubectl, namespace, images):
    """The example model, trained in the cluster by the example's own Job."""
    model.train_in_cluster(kubectl, namespace, images.runtime)
    return model.CLAIM


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


@pytest.fixture
def servers(kubectl, namespace):
    made = Servers(kubectl, namespace)
    yield made
    for name in list(made.names):
        made.delete(name)


@pytest.fixture(scope="module")
def module_servers(kubectl, namespace):
    made = Servers(kubectl, namespace)
    yield made
    for name in list(made.names):
        made.delete(name)


@pytest.fixture(scope="module")
def watch(kubectl, namespace):
    with watching(kubectl, namespace) as watch:
        yield watch


@pytest.fixture(scope="module")
def marked(module_servers, images):
    """What a ModelServer of the stand-in asks for."""
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
        module_servers.run("apply", "-f", "-", stdin=json.dumps(manifest))
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


@pytest.fixture
def record(record_property, capsys):
    """A figure, kept in the report and printed."""

    def record(name, value):
        record_property(name, value)
        with capsys.disabled():
            print(f"\n  {name}: {value}", end="")

    return record
