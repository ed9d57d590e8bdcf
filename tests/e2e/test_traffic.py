"""What clients notice of changes and failures: nothing, or only what cannot be avoided."""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from e2e.stage import operator_pids
from support.traffic import traffic_to
from support.waiting import wait_until

ASK = {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4, "temperature": 0}


@pytest.fixture(scope="module")
def server(module_servers, trained_claim):
    module_servers.apply("steady", spec_of(trained_claim))
    module_servers.wait_ready("steady")
    return "steady"


def spec_of(claim, **more):
    return {"model": {"uri": f"pvc://{claim}"}, "replicas": 2, **more}


@pytest.fixture
def traffic(module_servers, server):
    url = f"{module_servers.url(server)}/v1/chat/completions"
    with traffic_to(url, {**ASK, "model": server}) as running:
        running.wait_for_answers(20)
        yield running


def test_a_change_of_revision_drops_no_request(module_servers, server, traffic, trained_claim):
    before = module_servers.get("modelserver", server)["status"]["servingRevision"]
    marker = {"runtime": {"env": [{"name": "MARKER", "value": "second"}]}}
    module_servers.apply(server, spec_of(trained_claim, **marker))
    after = module_servers.wait_ready(server)["status"]["servingRevision"]
    assert after != before
    wait_until(
        lambda: not [c for c in module_servers.children(server) if before in c and "Pod/" in c],
        timeout=180, what="the old revision's pods are gone",
    )  # fmt: skip
    traffic.wait_for_answers(40)
    assert traffic.failures == []
    assert set(traffic.revisions()) == {before, after}


def test_killing_the_operator_drops_no_request(module_servers, kubectl, server, traffic, operator):
    pids = operator_pids(kubectl)
    assert pids, "no operator process is visible"
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    traffic.wait_for_answers(40)
    wait_until(lambda: len(operator_pids(kubectl)) == 2, timeout=120, what="two operators again")
    kubectl.run(
        "-n", operator, "rollout", "status", "deployment/modelserver-operator", "--timeout=120s"
    )
    traffic.wait_for_answers(40)
    assert traffic.failures == []


def test_a_killed_model_pod_comes_back(module_servers, server, traffic):
    pods = module_servers.get("pods", "-l", f"modelserver.dev/server={server}")["items"]
    victim = pods[0]["metadata"]["name"]
    module_servers.run("delete", "pod", victim)  # by eviction or drain: SIGTERM, then drained
    wait_until(
        lambda: module_servers.get("pod", victim) is None, timeout=120, what=f"{victim} is gone"
    )
    module_servers.wait_ready(server)
    traffic.wait_for_answers(20)
    assert traffic.failures == []


def test_a_node_that_is_drained_takes_one_pod_after_the_other(
    module_servers, kubectl, server, traffic
):
    """There is one node: while it is closed the second pod stays, as its budget says."""
    before = names_of_pods(module_servers, server)
    (node,) = json.loads(kubectl.run("get", "nodes", "-o", "json"))["items"]
    name = node["metadata"]["name"]
    with ThreadPoolExecutor(1) as pool:
        draining = pool.submit(drain, kubectl, name, server)
        try:
            wait_until(
                lambda: any(is_waiting(pod) for pod in pods_of(module_servers, server)),
                timeout=180, what="a new pod that has no node",
            )  # fmt: skip
            traffic.wait_for_answers(20)
            assert traffic.failures == []
            assert len(before & names_of_pods(module_servers, server)) == 1
        finally:
            kubectl.run("uncordon", name)
        draining.result()
    module_servers.wait_ready(server)
    assert not before & names_of_pods(module_servers, server)
    traffic.wait_for_answers(20)
    assert traffic.failures == []


def drain(kubectl, node, server):
    """Evicts, and asks again while a budget refuses."""
    selector = f"--pod-selector=modelserver.dev/server={server}"
    kubectl.run("drain", node, selector, "--delete-emptydir-data", "--timeout=300s")


def pods_of(servers, server):
    """Those that do not end."""
    found = servers.get("pods", "-l", f"modelserver.dev/server={server}")["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def names_of_pods(servers, server):
    return {pod["metadata"]["name"] for pod in pods_of(servers, server)}


def is_waiting(pod):
    return not pod["spec"].get("nodeName")


@pytest.mark.parametrize(
    "kind",
    ["deployment", "service", "serviceaccount", "controllerrevision", "poddisruptionbudget",
     "networkpolicy"],
)  # fmt: skip
def test_a_deleted_child_comes_back_as_it_was(module_servers, server, kind):
    """But for the records of old revisions, which are history and nothing else."""
    status = module_servers.get("modelserver", server)["status"]
    history = {
        name
        for name in spec_by_name(module_servers, "controllerrevision", server)
        if name != f"{server}-{status['servingRevision']}"
    }
    before = spec_by_name(module_servers, kind, server)
    assert before
    module_servers.run("delete", kind, *before, "--wait")
    wanted = {name: spec for name, spec in before.items() if name not in history}
    wait_until(
        lambda: spec_by_name(module_servers, kind, server) == wanted,
        timeout=60, what=f"{kind} back as it was",
    )  # fmt: skip
    module_servers.wait_ready(server)


EDITS = {
    "deployment": {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 30}}}},
    "service": {"spec": {"selector": {"modelserver.dev/server": "somebody-else"}}},
    "serviceaccount": {"automountServiceAccountToken": True},
    "poddisruptionbudget": {"spec": {"maxUnavailable": 2}},
    "networkpolicy": {"spec": {"egress": [{}]}},
}


@pytest.mark.parametrize("kind", EDITS)
def test_a_hand_edited_child_is_put_right(module_servers, server, kind):
    before = spec_by_name(module_servers, kind, server)
    for name in before:
        module_servers.run("patch", kind, name, "--type=merge", "-p", json.dumps(EDITS[kind]))
    wait_until(
        lambda: spec_by_name(module_servers, kind, server) == before,
        timeout=30, what=f"{kind} put right",
    )  # fmt: skip
    module_servers.wait_ready(server)


def spec_by_name(servers, kind, server):
    """What a child is, without what the API server and the controllers add; history left out."""
    serving = servers.get("modelserver", server)["status"]["servingRevision"]
    found = servers.get(kind, "-l", f"modelserver.dev/server={server}")["items"]
    return {
        item["metadata"]["name"]: essence(item)
        for item in found
        if item["metadata"]["labels"].get("modelserver.dev/revision", serving) == serving
    }


def essence(item):
    volatile = ("metadata", "status", "revision")
    body = {key: value for key, value in item.items() if key not in volatile}
    for address in ("clusterIP", "clusterIPs"):
        body.get("spec", {}).pop(address, None)
    return {**body, "labels": item["metadata"].get("labels", {})}
