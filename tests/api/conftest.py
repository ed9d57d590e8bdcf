"""The rig for tests of the operator on a real API server, without a node.

    test ──> FaultProxy ──> kube-apiserver + etcd + kube-controller-manager
               ^                  ^
    operator process(es)        Stage: scheduler and kubelet, played by the test

* `support.fault_proxy.FaultProxy`: counts requests, kills at a write, cuts and falsifies watches.
* `support.operator_process.OperatorProcess`: the operator as a process of its own, under its own
  ServiceAccount token with the RBAC of `manifests/`, through a proxy.
* `support.stage.Stage`: makes pods run, fail, crash or stay pending as told.
* `support.audit.AuditLog`: who wrote and read what, by the API server's own account.
* `support.manifests`, `support.installation`: what `manifests/` installs, parsed and installed.
* `support.servers.Servers`: ModelServers of one namespace, their children, and waiting for them.

`operator` is one replica for a whole module; a test that stops, starves or replaces replicas makes
its own with `make_operator`, in a module that does not use `operator`: they would share the Lease.
"""

import hashlib
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devcluster import definitions
from devcluster.api import Cluster, Mode, api_cluster, up
from devcluster.definitions import BundleName
from support.audit import AuditLog
from support.fault_proxy import FaultProxy
from support.installation import Installation, install_definitions
from support.kube import Kube
from support.manifests import Manifest, render
from support.operator_process import OperatorProcess
from support.processes import ShiftedClock
from support.rollouts import Play
from support.servers import Servers
from support.stage import Stage

OPERATOR_NAMESPACE = "modelserver-system"

# The operator finds these wherever it runs here; tests/api/test_optional_kinds.py takes them away.
OTHERS = (BundleName.ISTIO, BundleName.GATEWAY_API, BundleName.KEDA)
OF_OTHERS = ("DestinationRule", "VirtualService", "HTTPRoute", "ScaledObject")

# No node has to learn of new endpoints here, so the pods of an old revision may go soon.
FASTER = {"SETTLE_SECONDS": "1"}


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/api" in str(item.path):
            item.add_marker(pytest.mark.api)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Its own for every run of the tests: two runs do not meet."""
    name = f"api-{os.getpid()}"
    with api_cluster(name) as made:
        with Kube.admin_of(made) as admin:
            install_definitions(admin, render(made.kubectl))
        definitions.install_definitions(made, OTHERS, kinds=OF_OTHERS)
        yield up(name, mode=Mode.API_ONLY, controllers=True)


@pytest.fixture(scope="session")
def kube(cluster: Cluster) -> Iterator[Kube]:
    with Kube.admin_of(cluster) as admin:
        yield admin


@pytest.fixture(scope="session")
def manifests(cluster: Cluster) -> list[Manifest]:
    return render(cluster.kubectl)


@pytest.fixture(scope="session")
def installation(kube: Kube, manifests: list[Manifest]) -> Installation:
    """The operator's account and roles, as `kubectl apply -k manifests/base` makes them."""
    return Installation.make(kube, manifests, OPERATOR_NAMESPACE)


@pytest.fixture(scope="session")
def stage(cluster: Cluster) -> Iterator[Stage]:
    with Stage(cluster) as played:
        yield played


@pytest.fixture(autouse=True)
def _plain_play(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test inherits the directions of another."""
    yield
    if "stage" in request.fixturenames:
        request.getfixturevalue("stage").clear()


@pytest.fixture(scope="session")
def audit(cluster: Cluster) -> AuditLog:
    return AuditLog(cluster.audit_log)


@pytest.fixture
def kubectl(cluster: Cluster) -> Callable[..., str]:
    """Runs kubectl as the administrator; fails with what it says."""

    def run(*arguments: str, stdin: str = "") -> str:
        result = subprocess.run(
            [cluster.kubectl, f"--kubeconfig={cluster.kubeconfig}", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, f"kubectl {' '.join(arguments)}: {result.stderr}"
        return result.stdout

    return run


@pytest.fixture
def namespace(request: pytest.FixtureRequest, kube: Kube) -> Iterator[str]:
    """A fresh one per test, under Pod Security "restricted"."""
    attempt = getattr(request.node, "execution_count", 1)  # the last one's may still be ending
    name = namespace_name(request.node.name if attempt == 1 else f"{request.node.name}-{attempt}")
    make_namespace(kube, name)
    yield name
    end_namespace(kube, name)


@pytest.fixture
def other_namespace(kube: Kube, namespace: str) -> Iterator[str]:
    name = f"{namespace}-2"
    make_namespace(kube, name)
    yield name
    end_namespace(kube, name)


@pytest.fixture(scope="module")
def module_namespace(request: pytest.FixtureRequest, kube: Kube) -> Iterator[str]:
    name = namespace_name(request.path.stem)
    make_namespace(kube, name)
    yield name
    end_namespace(kube, name)


def namespace_name(test: str) -> str:
    """Readable, and different for every case of a table."""
    words = re.sub(r"[^a-z0-9]+", "-", test.removeprefix("test_").lower())
    return f"{words[:44].strip('-')}-{hashlib.sha256(test.encode()).hexdigest()[:5]}"


def make_namespace(kube: Kube, name: str) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": name, "labels": labels}
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})


def end_namespace(kube: Kube, name: str) -> None:
    """Its servers first: a namespace takes seconds to end, and the operator of the next test would
    try to make children in it."""
    kube.delete(f"/apis/modelserver.dev/v1alpha1/namespaces/{name}/modelservers")
    kube.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def servers(kube: Kube, namespace: str, stage: Stage) -> Servers:
    return Servers(kube, namespace)


@pytest.fixture(scope="module")
def module_proxy(cluster: Cluster) -> Iterator[FaultProxy]:
    with FaultProxy(cluster.url, ca_file=cluster.ca_file) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def operator(
    installation: Installation, module_proxy: FaultProxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """One replica that all tests of a module share."""
    folder = tmp_path_factory.mktemp("operator")
    process = OperatorProcess(installation, module_proxy, folder, settings=FASTER)
    with process:
        yield process


@pytest.fixture
def play(servers: Servers, stage: Stage, operator: OperatorProcess) -> Play:
    """Of one server in a namespace of its own, watched by one operator."""
    assert operator.is_running
    return Play(servers, stage)


@pytest.fixture
def make_operator(
    cluster: Cluster, installation: Installation, tmp_path: Path
) -> Iterator[Callable[..., OperatorProcess]]:
    """Replicas of a test's own, each behind a proxy of its own; not started yet."""
    made: list[OperatorProcess] = []

    def make(
        identity: str = "replica-a",
        *,
        forked: bool = True,
        clock: ShiftedClock | None = None,
        **settings: str,
    ) -> OperatorProcess:
        proxy = FaultProxy(cluster.url, ca_file=cluster.ca_file).__enter__()
        process = OperatorProcess(
            installation,
            proxy,
            tmp_path,
            identity=identity,
            settings=FASTER | settings,
            forked=forked,
            clock=clock,
        )
        made.append(process)
        return process

    yield make
    for process in made:
        if process.is_running:
            process.kill()
        process.proxy.__exit__()
