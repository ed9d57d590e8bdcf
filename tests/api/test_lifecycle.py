"""A ModelServer on a real API server, with the real controllers: what a user does to it."""

import json
import time

import pytest
import yaml

from support.servers import OTHER_COMMIT, pinned
from support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("operator")

EXPECTED_KINDS = [
    "ControllerRevision",
    "Deployment",
    "NetworkPolicy",
    "NetworkPolicy",
    "Service",
    "Service",
    "ServiceAccount",
]


def kinds(servers, name):
    return sorted(child["kind"] for child in servers.children(name))


def deployments(servers, name):
    return [child for child in servers.children(name) if child["kind"] == "Deployment"]


def exported(server):
    """As `kubectl get -o yaml` and a backup keep it."""
    return yaml.safe_load(yaml.safe_dump(server))


def test_all_children_exist_and_belong_to_it(servers):
    servers.create("chat")
    server = servers.wait_settled("chat")
    assert kinds(servers, "chat") == EXPECTED_KINDS
    for child in servers.children("chat"):
        owner = child["metadata"]["ownerReferences"][0]
        assert owner["uid"] == server["metadata"]["uid"]
        assert owner["controller"] is True


def test_the_operator_leaves_nothing_on_the_modelserver_but_its_status(servers):
    servers.create("chat")
    metadata = servers.wait_settled("chat")["metadata"]
    assert "finalizers" not in metadata
    assert "annotations" not in metadata
    managers = {(one["manager"], one.get("subresource")) for one in metadata["managedFields"]}
    assert ("modelserver-operator-status", "status") in managers
    ours = {entry for entry in managers if "operator" in entry[0] or "kopf" in entry[0]}
    assert ours == {("modelserver-operator-status", "status")}


def test_scaling_changes_the_pods_and_a_budget_comes_and_goes(servers, kubectl):
    servers.create("chat")
    servers.wait_settled("chat")
    revision = servers.status("chat")["servingRevision"]
    namespace = servers.namespace
    kubectl("-n", namespace, "scale", "modelserver/chat", "--replicas=3")
    servers.wait_settled("chat")
    assert len(servers.pods("chat")) == 3
    assert "PodDisruptionBudget" in kinds(servers, "chat")
    kubectl("-n", namespace, "scale", "modelserver/chat", "--replicas=1")
    servers.wait_settled("chat")
    wait_until(lambda: kinds(servers, "chat") == EXPECTED_KINDS, timeout=10, what="the budget gone")
    assert servers.status("chat")["servingRevision"] == revision


def test_deleting_it_leaves_nothing(servers):
    servers.create("chat")
    servers.wait_settled("chat")
    servers.delete("chat")
    servers.wait_gone("chat")


def test_a_server_of_the_same_name_begins_anew(servers):
    """The children of the first are still being collected when the second one comes."""
    servers.create("chat")
    first = servers.wait_settled("chat")
    servers.delete("chat")
    second = servers.create("chat", pinned(replicas=2))
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    servers.wait_settled("chat", timeout=60)
    owners = {child["metadata"]["ownerReferences"][0]["uid"] for child in servers.children("chat")}
    assert owners == {second["metadata"]["uid"]}


def test_a_change_of_what_is_served_rolls_to_a_new_revision(servers):
    servers.create("chat")
    old = servers.wait_settled("chat")["status"]["servingRevision"]
    model = {"uri": "hf://example/tiny", "revision": OTHER_COMMIT}
    servers.patch("chat", {"model": model})
    wait_until(
        lambda: servers.status("chat")["servingRevision"] != old, timeout=30, what="a new revision"
    )
    servers.wait_settled("chat", timeout=60)
    wait_until(
        lambda: len(deployments(servers, "chat")) == 1, timeout=30, what="the old one drained"
    )
    new = servers.status("chat")["servingRevision"]
    root = servers.child("Service", "chat")
    assert root["spec"]["selector"]["modelserver.dev/revision"] == new


def test_kubectl_replace_changes_nothing_that_runs(servers, kubectl):
    servers.create("chat")
    before = servers.wait_settled("chat")
    snapshot = servers.snapshot("chat")
    uids = {child["metadata"]["uid"] for child in servers.children("chat")}
    manifest = servers.manifest("chat", before["spec"])
    kubectl("replace", "-f", "-", stdin=json.dumps(manifest))
    servers.wait_settled("chat")
    assert servers.snapshot("chat") == snapshot
    assert {child["metadata"]["uid"] for child in servers.children("chat")} == uids


def test_kubectl_replace_with_force_makes_a_new_one_of_the_same_kind(servers, kubectl):
    servers.create("chat")
    before = servers.wait_settled("chat")
    snapshot = servers.snapshot("chat")
    manifest = servers.manifest("chat", before["spec"])
    kubectl("replace", "--force", "-f", "-", stdin=json.dumps(manifest))
    after = servers.wait_settled("chat", timeout=60)
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    wait_until(lambda: servers.snapshot("chat") == snapshot, timeout=30, what="the same state")


def test_an_exported_server_can_be_restored(servers):
    """With status, managedFields and all, as a backup keeps it."""
    servers.create("chat")
    export = exported(servers.wait_settled("chat"))
    snapshot = servers.snapshot("chat")
    servers.delete("chat")
    servers.wait_gone("chat")
    for field in ("uid", "resourceVersion", "managedFields", "creationTimestamp"):
        del export["metadata"][field]
    servers.kube.create(export)
    servers.wait_settled("chat")
    wait_until(lambda: servers.snapshot("chat") == snapshot, timeout=30, what="the same state")


def test_a_server_restored_into_another_namespace_is_served_there(servers, other_namespace):
    servers.create("chat")
    export = exported(servers.wait_settled("chat"))
    others = type(servers)(servers.kube, other_namespace)
    metadata = {"name": "chat", "namespace": other_namespace}
    servers.kube.create({**export, "metadata": metadata})
    others.wait_settled("chat")
    assert others.child_names("chat") == servers.child_names("chat")


def test_children_of_a_backup_whose_owner_is_gone_do_not_stop_a_restored_server(servers):
    """A backup restores children with an ownerReference to a uid that no longer exists."""
    servers.create("chat")
    export = exported(servers.wait_settled("chat"))
    account = servers.child("ServiceAccount", "chat")
    servers.delete("chat")
    servers.wait_gone("chat")
    for field in ("uid", "resourceVersion", "managedFields", "creationTimestamp"):
        export["metadata"].pop(field)
        account["metadata"].pop(field)
    servers.kube.create({"apiVersion": "v1", "kind": "ServiceAccount"} | account)
    servers.kube.create(export)
    restored = servers.wait_settled("chat", timeout=60)
    owner = servers.child("ServiceAccount", "chat")["metadata"]["ownerReferences"][0]
    assert owner["uid"] == restored["metadata"]["uid"]


def test_an_object_of_somebody_else_is_not_taken(servers):
    foreign = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "chat", "namespace": servers.namespace},
        "spec": {"selector": {"app": "theirs"}, "ports": [{"port": 1234}]},
    }
    before = servers.kube.create(foreign)
    servers.create("chat")
    servers.wait_diagnosis("chat", "NameConflict")
    after = servers.child("Service", "chat")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    servers.kube.delete(servers.child_path("Service", "chat"))
    servers.wait_settled("chat", timeout=60)
    assert servers.child("Service", "chat")["metadata"]["ownerReferences"]


def test_events_tell_of_transitions_and_are_not_repeated(servers):
    servers.create("chat")
    servers.wait_settled("chat")
    reasons = [event["reason"] for event in servers.events("chat")]
    assert "Ready" in reasons or "Serving" in reasons, reasons
    assert len(reasons) == len(set(reasons)), reasons
    time.sleep(1)
    assert len(servers.events("chat")) == len(reasons)
    for event in servers.events("chat"):
        assert event["reportingController"] == "modelserver.dev/operator"
        assert event["type"] in {"Normal", "Warning"}


def test_deleting_the_namespace_takes_everything(servers, kubectl):
    servers.create("chat")
    servers.wait_settled("chat")
    servers.kube.delete(f"/api/v1/namespaces/{servers.namespace}")
    servers.kube.wait_gone(f"/api/v1/namespaces/{servers.namespace}", timeout=60)
