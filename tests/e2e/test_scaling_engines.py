"""Scaling by the real metrics-server, the real KEDA and a real Prometheus.

First what these do by themselves, with nothing of ours: what else is tested here stands on it.
"""

import json
from functools import partial

import httpx
import pytest

from devcluster.demo.failure import DemoFailure
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
from support.autoscalers import PROMETHEUS, STORIES, objects_of, scaling_of
from support.kube import path_of
from support.marked_traffic import marked_traffic
from support.planning import a_server
from support.waiting import wait_until

pytestmark = [pytest.mark.scaling, pytest.mark.timeout(1800)]

NAMESPACE = "modelserver-e2e-scaled"
MOST = 4
# Requests a second. Half of MUCH is enough for all pods, where the machine has no time for more.
MUCH, LITTLE = 10, 0.5
BUSY = {"CPU_MILLISECONDS": "40"}  # of each request: of MUCH, eight times what a pod requests
PODS_METRICS = f"/apis/metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/pods"


# -- stage -----------------------------------------------------------------------------------------


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
        traffic.rate = MUCH
        bench.until_pods("by-cpu", MOST)
        traffic.rate = LITTLE
        bench.until_pods("by-cpu", 1)
    bench.delete("hpa", "by-cpu")


def test_keda_scales_by_a_query_of_prometheus(keda, prometheus, bench, a_stand_in):
    pods = f'namespace="{NAMESPACE}",pod=~"by-query-.+",job="modelservers"'
    query = f"sum(rate(modelserver_requests_total{{{pods}}}[15s]))"
    scaled = a_scaled_object("by-query", most=MOST, url=prometheus.url, query=query, threshold="1")
    with a_stand_in("by-query") as traffic:
        bench.apply(scaled)
        traffic.rate = MUCH
        bench.until_pods("by-query", MOST)
        traffic.rate = LITTLE
        bench.until_pods("by-query", 1)
    bench.delete("scaledobject", "by-query")


# -- what the operator tells KEDA ------------------------------------------------------------------

NAMES = sorted(path.name for path in STORIES.iterdir())
NOT_HERE = {"rabbitmq", "kafka"}  # KEDA asks these when it is told of them


@pytest.fixture
def a_scaled(bench, images, prometheus):
    """Makes a Deployment; gives the ScaledObject that the operator would write for it."""
    made = []

    def make(story):
        found = objects_of(a_server(), scaling_of(story))["scaled_object.yaml"]
        [scaled] = json.loads(json.dumps(found).replace(PROMETHEUS, prometheus.url))
        scaled["metadata"] |= {"namespace": NAMESPACE, "ownerReferences": []}
        spec = scaled["spec"]
        spec["triggers"] = [one for one in spec["triggers"] if one["type"] not in NOT_HERE]
        name = spec["scaleTargetRef"]["name"]
        bench.apply(a_deployment(name, images.runtime))
        made.append(name)
        return scaled

    yield make
    for name in made:
        for kind in ("scaledobject", "deployment"):
            bench.delete(kind, name)


@pytest.mark.parametrize("story", NAMES)
def test_keda_carries_out_what_the_operator_writes(keda, bench, kube, a_scaled, story):
    scaled = a_scaled(story)
    asked = {"dryRun": "All", "fieldValidation": "Strict"}
    answer = kube.ask("POST", path_of(scaled, collection=True), scaled, params=asked)
    assert answer.status_code == 201, answer.text
    assert "Warning" not in answer.headers
    bench.apply(scaled)
    name, spec = scaled["metadata"]["name"], scaled["spec"]

    def conditions():
        status = bench.get("scaledobject", name).get("status", {})
        return {one["type"]: one["status"] for one in status.get("conditions", ())}

    wait_until(lambda: conditions().get("Ready") == "True", timeout=PATIENCE, what="Ready")
    config = spec["advanced"]["horizontalPodAutoscalerConfig"]
    hpa = bench.get("hpa", config["name"])["spec"]
    assert (hpa["minReplicas"], hpa["maxReplicas"]) == (
        spec["minReplicaCount"],
        spec["maxReplicaCount"],
    )
    assert hpa["behavior"] == config["behavior"]
    assert hpa["scaleTargetRef"] == spec["scaleTargetRef"]
    kinds = sorted(_kind_of_metric(one) for one in hpa["metrics"])
    assert kinds == sorted(_kind_of_trigger(one) for one in spec["triggers"])


def test_prometheus_understands_every_query_that_the_operator_writes(prometheus):
    [scaled] = objects_of(a_server(), scaling_of("everything"))["scaled_object.yaml"]
    triggers = [one for one in scaled["spec"]["triggers"] if one["type"] == "prometheus"]
    queries = {one["name"]: one["metadata"]["query"] for one in triggers}
    assert len(queries) == 5
    for name, query in queries.items():
        answer = httpx.get(f"{prometheus.url}/api/v1/query", params={"query": query})
        assert answer.json()["status"] == "success", f"{name}: {answer.text}"


def _kind_of_metric(metric):
    measured = metric.get("containerResource")
    if measured is None:
        return metric["type"], metric["external"]["target"]["type"]
    return measured["name"], measured["container"], measured["target"]["type"]


def _kind_of_trigger(trigger):
    if trigger["type"] in {"cpu", "memory"}:
        return trigger["type"], trigger["metadata"]["containerName"], trigger["metricType"]
    return "External", trigger["metricType"]


def test_keda_refuses_a_fallback_for_cpu_and_memory_alone(keda, bench, a_scaled):
    """Which is why the operator writes none there."""
    scaled = a_scaled("resources")
    scaled["spec"]["fallback"] = {"failureThreshold": 3, "replicas": 2}
    with pytest.raises(DemoFailure, match="at least one trigger"):
        bench.apply(scaled)
