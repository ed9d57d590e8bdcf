"""From creation to deletion, with the real garbage collector and the real workload controllers."""

import pytest

from support.servers import (
    MANAGER,
    OTHER_COMMIT,
    REVISION_LABEL,
    Servers,
    pinned,
    unpinned,
)
from support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("operator", "stage")


def expected_children(name, revision, *, budget=True):
    per_revision = ["ControllerRevision", "Deployment", "Service"]
    per_revision += ["PodDisruptionBudget"] if budget else []
    return sorted(
        [f"{kind}/{name}-{revision}" for kind in per_revision]
        + [f"{kind}/{name}" for kind in ("NetworkPolicy", "Service", "ServiceAccount")]
        + [f"NetworkPolicy/{name}-fetch"]
    )


def without_jobs(names):
    return [name for name in names if not name.startswith("Job/")]


def test_every_child_exists_and_is_owned(servers):
    servers.create("chat", unpinned(replicas=2))
    server = servers.wait_settled("chat")
    revision = server["status"]["servingRevision"]
    assert without_jobs(servers.child_names("chat")) == expected_children("chat", revision)
    for child in servers.children("chat"):
        (owner,) = child["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"]) == ("ModelServer", "chat")
        assert owner["uid"] == server["metadata"]["uid"]
        assert owner["controller"] is True


def test_no_label_or_annotation_of_the_user_is_copied(servers):
    manifest = servers.manifest("chat", pinned())
    manifest["metadata"]["labels"] = {"team": "search"}
    manifest["metadata"]["annotations"] = {"argocd.argoproj.io/tracking-id": "app:1"}
    servers.kube.create(manifest)
    servers.wait_settled("chat")
    for child in servers.children("chat"):
        assert "team" not in child["metadata"]["labels"]
        assert "argocd.argoproj.io/tracking-id" not in child["metadata"]["annotations"]


def test_the_operator_leaves_no_trace_on_the_resource_itself(servers):
    servers.create("chat")
    metadata = servers.wait_settled("chat")["metadata"]
    assert "finalizers" not in metadata
    assert "annotations" not in metadata
    managers = {(f["manager"], f.get("subresource", "")) for f in metadata["managedFields"]}
    operators = {manager for manager in managers if manager[0].startswith(MANAGER)}
    assert operators == {("modelserver-operator-status", "status")}


def test_pods_pass_the_restricted_standard_and_run(servers):
    """The namespace enforces it: a pod that does not pass would not exist."""
    servers.create("chat", pinned(replicas=2))
    servers.wait_settled("chat")
    assert len(servers.pods("chat")) == 2


def test_scaling_by_the_subresource_reaches_pods_and_budget(servers, kubectl):
    servers.create("chat")
    revision = servers.wait_settled("chat")["status"]["servingRevision"]
    assert servers.child("PodDisruptionBudget", f"chat-{revision}") is None
    kubectl("-n", servers.namespace, "scale", "modelserver/chat", "--replicas=3")
    wait_until(lambda: len(servers.pods("chat")) == 3, timeout=20, what="three pods")
    assert servers.wait_settled("chat")["status"]["readyReplicas"] == 3
    assert servers.child("PodDisruptionBudget", f"chat-{revision}")
    scale = servers.kube.get(f"{servers.path('chat')}/scale")
    found = servers.kube.items(
        f"/api/v1/namespaces/{servers.namespace}/pods", scale["status"]["selector"]
    )
    assert (scale["status"]["replicas"], len(found)) == (3, 3)


def test_scaling_down_removes_the_budget(servers, kubectl):
    servers.create("chat", pinned(replicas=2))
    revision = servers.wait_settled("chat")["status"]["servingRevision"]
    kubectl("-n", servers.namespace, "scale", "modelserver/chat", "--replicas=1")
    wait_until(
        lambda: servers.child("PodDisruptionBudget", f"chat-{revision}") is None,
        timeout=20,
        what="no budget for one pod",
    )
    wait_until(lambda: len(servers.pods("chat")) == 1, timeout=20, what="one pod")


def test_a_new_revision_takes_over_and_the_old_one_leaves(servers):
    servers.create("chat", pinned(replicas=2))
    old = servers.wait_settled("chat")["status"]["servingRevision"]
    servers.patch("chat", {"model": {"revision": OTHER_COMMIT}})
    new = servers.wait_settled("chat")["status"]["servingRevision"]
    assert new != old
    assert servers.child("Service", "chat")["spec"]["selector"][REVISION_LABEL] == new
    wait_until(lambda: _workloads(servers) == [f"chat-{new}"], timeout=20, what="old one gone")
    assert servers.child("ControllerRevision", f"chat-{old}"), "history is kept"


def test_the_root_service_never_leads_to_a_revision_without_ready_pods(servers, stage):
    servers.create("chat")
    old = servers.wait_settled("chat")["status"]["servingRevision"]
    with stage.intermission():
        servers.patch("chat", {"model": {"revision": OTHER_COMMIT}})
        wait_until(lambda: len(_workloads(servers)) == 2, timeout=20, what="second Deployment")
        servers.wait_condition("chat", "Progressing", "True")
        assert servers.child("Service", "chat")["spec"]["selector"][REVISION_LABEL] == old
        assert servers.is_current("chat", "Serving", "True")
    assert servers.wait_settled("chat")["status"]["servingRevision"] != old


def test_deleting_leaves_nothing(servers):
    servers.create("chat", unpinned(replicas=2))
    servers.wait_settled("chat")
    servers.delete("chat")
    servers.wait_gone("chat")


def test_a_server_that_is_made_again_at_once_gets_children_of_its_own(servers):
    servers.create("chat")
    servers.wait_settled("chat")
    servers.delete("chat")
    servers.create("chat")
    server = servers.wait_settled("chat")
    uids = {c["metadata"]["ownerReferences"][0]["uid"] for c in servers.children("chat")}
    assert uids == {server["metadata"]["uid"]}
    wait_until(lambda: len(servers.pods("chat")) == 1, timeout=20, what="one pod")


def test_servers_of_one_name_in_two_namespaces_are_strangers(servers, kube, other_namespace):
    others = Servers(kube, other_namespace)
    for each in (servers, others):
        each.create("chat")
    for each in (servers, others):
        each.wait_settled("chat")
    servers.delete("chat")
    servers.wait_gone("chat")
    assert without_jobs(others.child_names("chat")) == expected_children(
        "chat", others.status("chat")["servingRevision"], budget=False
    )


def test_events_tell_of_transitions_once(servers):
    servers.create("chat")
    servers.wait_settled("chat")
    servers.patch("chat", {"replicas": 2})
    servers.wait_settled("chat")
    reasons = [event["reason"] for event in servers.events("chat")]
    assert "Ready" in reasons
    assert len(reasons) == len(set(reasons)) or reasons.count("Ready") == 2, reasons
    for event in servers.events("chat"):
        assert event["reportingController"] == "modelserver.dev/operator"
        assert event["type"] in {"Normal", "Warning"}


def test_suspending_keeps_everything_but_the_pods(servers):
    servers.create("chat")
    servers.wait_settled("chat")
    before = servers.child_names("chat")
    servers.patch("chat", {"suspend": True})
    wait_until(lambda: not servers.pods("chat"), timeout=20, what="no pods")
    assert servers.child_names("chat") == before
    servers.patch("chat", {"suspend": False})
    servers.wait_settled("chat")


def _workloads(servers):
    children = servers.children("chat")
    return sorted(c["metadata"]["name"] for c in children if c["kind"] == "Deployment")
