"""A real Kubernetes with the operator from the real manifests and both real images."""

import pytest

from devcluster.cluster import existing
from devcluster.demo import install, model
from devcluster.demo.clusters import devcluster
from e2e.rollout_play import watching
from e2e.sleeping import PATIENCE, Sleeper, a_key, installed_gateway, sleepy_spec
from e2e.stage import Servers, borrowed_cluster, fresh_namespace, stand_in
from support.kube import Kube
from support.prometheus_server import Discovery, PrometheusServer

NAMESPACE = "modelserver-e2e"


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/e2e" in str(item.path):
            item.add_marker(pytest.mark.e2e)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def cluster():
    with borrowed_cluster("dev") as cluster:
        yield cluster


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
    fresh_namespace(kubectl, NAMESPACE)
    yield NAMESPACE
    kubectl.run("delete", "namespace", NAMESPACE, "--wait")


@pytest.fixture(scope="session")
def trained_claim(kubectl, namespace, images):
    """The example model, trained in the cluster by the example's own Job."""
    model.train_in_cluster(kubectl, namespace, images.runtime)
    return model.CLAIM


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
    return stand_in(module_servers, images)


@pytest.fixture(scope="module")
def gateway_key():
    return a_key()


@pytest.fixture(scope="module")
def unlimited_key():
    return a_key(limits={"requests_per_minute": 1_000_000})


@pytest.fixture(scope="module")
def gateway(cluster, kubectl, operator, gateway_key, unlimited_key):
    """The URL of its front door."""
    records = {"e2e": gateway_key[1], "unlimited": unlimited_key[1]}
    with installed_gateway(cluster, kubectl, records) as url:
        yield url


@pytest.fixture
def sleeper(module_servers, marked, gateway):
    """Makes a server of the stand-in that sleeps; deletes it when the test ends."""
    made = []

    def make(name, **more):
        module_servers.apply(name, sleepy_spec(marked) | more)
        made.append(name)
        module_servers.wait_ready(name, timeout=PATIENCE)
        return Sleeper(module_servers, name)

    yield make
    for name in made:
        module_servers.delete(name)


@pytest.fixture(scope="module")
def kube(cluster, kubectl):
    with Kube.admin_of(existing(cluster.name)) as kube:
        yield kube


@pytest.fixture(scope="module")
def metrics_server(cluster, kubectl):
    """The real one; stays."""
    devcluster("install-metrics-server", "--name", cluster.name)


@pytest.fixture(scope="module")
def keda(cluster, kubectl):
    """The real one; stays."""
    devcluster("install-keda", "--name", cluster.name)


@pytest.fixture(scope="module")
def prometheus(cluster, kube, tmp_path_factory):
    """Scrapes the pods of models every second; pods reach it, too."""
    folder = tmp_path_factory.mktemp("prometheus")
    targets, host = folder / "targets.json", existing(cluster.name).record.networks.host
    with Discovery(kube, targets), PrometheusServer(folder, targets, host=host) as server:
        yield server


@pytest.fixture(scope="module")
def operator_with_prometheus(kubectl, images, operator, prometheus):
    """The same, which writes for KEDA what Prometheus is to be asked."""
    install.install(
        kubectl,
        operator_image=images.operator,
        runtime_image=images.runtime,
        settings={"MODELSERVER_OPERATOR_PROMETHEUS_URL": prometheus.url},
    )


@pytest.fixture(scope="module")
def numbers(kubectl, namespace, operator):
    """Every state of every Deployment."""
    with watching(kubectl, namespace, "deployments") as watch:
        yield watch


@pytest.fixture
def record(record_property, capsys):
    """A figure, kept in the report and printed."""

    def record(name, value):
        record_property(name, value)
        with capsys.disabled():
            print(f"\n  {name}: {value}", end="")

    return record
