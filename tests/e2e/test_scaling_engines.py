"""Scaling by the real metrics-server, the real KEDA and a real Prometheus.

First what these do by themselves, with nothing of ours: what else is tested here stands on it.
"""

from functools import partial

import pytest

from devcluster.cluster import existing
from devcluster.demo.clusters import devcluster
from e2e.rollout_play import ASKED, is_answered
from e2e.scaled_deployment import (
    CONTAINER,
    PATIENCE,
    Workbench,
    a_deployment,
    a_program,
    a_scaled_object,
    a_service,
    an_hpa,
)
from e2e.stage import fresh_namespace
from support.kube import Kube
from support.marked_traffic import marked_traffic
from support.prometheus_server import Discovery, PrometheusServer
from support.waiting import wait_until

pytestmark = pytest.mark.scaling

NAMESPACE = "modelserver-e2e-scaled"
MOST = 4
MUCH, LITTLE = 25, 1  # requests a second
BUSY = {"CPU_MILLISECONDS": "10"}  # of each request: of 25, five times what a pod requests
PODS_METRICS = f"/apis/metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/pods"


# -- stage -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kube(cluster, kubectl):
    with Kube.admin_of(existing(cluster.name)) as kube:
        yield kube


@pytest.fixture(scope="module")
def metrics_server(cluster, kubectl):
    devcluster("install-metrics-server", "--name", cluster.name)


@pytest.fixture(scope="module")
def keda(cluster, kubectl):
    devcluster("install-keda", "--name", cluster.name)


@pytest.fixture(scope="module")
def prometheus(cluster, kube, tmp_path_factory):
    """Scrapes the pods of models every second; pods reach it, too."""
    folder = tmp_path_factory.mktemp("prometheus")
    host = existing(cluster.name).record.networks.host
    with (
        Discovery(kube, folder / "targets.json"),
        PrometheusServer(folder, folder / "targets.json", host=host) as server,
    ):
        yield server


@pytest.fixture(scope="module")
def bench(kubectl):
    fresh_namespace(kubectl, NAMESPACE)
    bench = Workbench(kubectl, NAMESPACE)
    bench.apply(a_program())
    yield bench
    kubectl.run("delete", "namespace", NAMESPACE, "--wait")


@pytest.fixture
def a_stand_in(bench, images):
    """Makes a Deployment of one pod with a Service; gives what asks it."""
    made = []

    def make(name, **env):
        # The label is what the documented configuration of Prometheus knows pods of models by.
        labels = {"modelserver.dev/revision": "none"}
        bench.apply(a_deployment(name, images.runtime, env=env, labels=labels), a_service(name))
        made.append(name)
        bench.until_pods(name, 1)
        url = f"{bench.url(name)}{ASKED}"
        wait_until(partial(is_answered, url, name, ""), timeout=PATIENCE, what=f"answers of {name}")
        return marked_traffic(url, name, 50)

    yield make
    for name in made:
        for kind in ("deployment", "service"):
            bench.delete(kind, name)


# -- what the engines do ---------------------------------------------------------------------------


def test_the_cpu_and_memory_of_each_container_are_told(kube, metrics_server, bench, a_stand_in):
    a_stand_in("measured")

    def measured():
        pods = (kube.get(PODS_METRICS) or {"items": []})["items"]
        return [one for one in pods if one["metadata"]["name"].startswith("measured-")]

    [pod] = wait_until(measured, timeout=PATIENCE, what="a sample of the pod", interval=1)
    used = {one["name"]: one["usage"] for one in pod["containers"]}
    assert set(used) == {CONTAINER, "idle"}
    assert used[CONTAINER]["cpu"] != "0"
    assert int(used[CONTAINER]["memory"].removesuffix("Ki")) > 4096


def test_an_hpa_scales_by_the_cpu_of_a_container(metrics_server, bench, a_stand_in):
    with a_stand_in("by-cpu", **BUSY) as traffic:
        bench.apply(an_hpa("by-cpu", most=MOST, percent=100))
        bench.until_pods("by-cpu", MOST)
        traffic.rate = LITTLE
        bench.until_pods("by-cpu", 1)
    bench.delete("hpa", "by-cpu")


def test_keda_scales_by_a_query_of_prometheus(keda, prometheus, bench, a_stand_in):
    pods = f'namespace="{NAMESPACE}",pod=~"by-query-.+",job="modelservers"'
    query = f"sum(rate(modelserver_requests_total{{{pods}}}[15s]))"
    scaled = a_scaled_object("by-query", most=MOST, url=prometheus.url, query=query, threshold="6")
    with a_stand_in("by-query") as traffic:
        bench.apply(scaled)
        bench.until_pods("by-query", MOST)
        traffic.rate = LITTLE
        bench.until_pods("by-query", 1)
    bench.delete("scaledobject", "by-query")
