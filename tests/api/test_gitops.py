"""What pipelines, backups and people with kubectl do to a ModelServer, and strangers beside it."""

import json

import pytest

from support import pod_outcomes
from support.servers import Servers, pinned
from support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("operator", "stage")

OF_THE_CLUSTER = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields")


def exported(servers, kubectl, name):
    """As `kubectl get -o json` gives it: with status, and all that the cluster has added."""
    return json.loads(kubectl("-n", servers.namespace, "get", "modelserver", name, "-o", "json"))


def for_another_cluster(manifest):
    """What a backup tool takes out before it restores."""
    kept = {k: v for k, v in manifest["metadata"].items() if k not in OF_THE_CLUSTER}
    return manifest | {"metadata": kept}


def test_replacing_a_resource_by_itself_changes_nothing(servers, kubectl, operator):
    servers.create("chat")
    servers.wait_settled("chat")
    before = servers.snapshot("chat")
    uids = _uids(servers)
    seen = len(operator.proxy.seen)
    kubectl("replace", "-f", "-", stdin=json.dumps(servers.get("chat")))
    kubectl("replace", "-f", "-", stdin=json.dumps(for_another_cluster(servers.get("chat"))))
    servers.patch("chat", {"replicas": 2})
    servers.wait_settled("chat")
    servers.patch("chat", {"replicas": 1})
    wait_until(lambda: servers.snapshot("chat") == before, timeout=20, what="as it was")
    assert _uids(servers) == uids
    written = {write.request.resource for write in operator.proxy.writes(seen, servers.namespace)}
    assert written <= {"deployments", "poddisruptionbudgets", "pods", "modelservers", "events"}


def test_replacing_with_another_spec_is_an_ordinary_change(servers, kubectl):
    servers.create("chat")
    old = servers.wait_settled("chat")["status"]["servingRevision"]
    manifest = for_another_cluster(exported(servers, kubectl, "chat"))
    manifest["spec"]["runtime"] = {"maxModelLength": 128}
    del manifest["status"]
    kubectl("replace", "-f", "-", stdin=json.dumps(manifest))
    assert servers.wait_settled("chat")["status"]["servingRevision"] != old


def test_an_exported_server_can_be_deleted_and_restored(servers, kubectl):
    servers.create("chat", pinned(replicas=2))
    servers.wait_settled("chat")
    before = servers.snapshot("chat")
    backup = for_another_cluster(exported(servers, kubectl, "chat"))
    servers.delete("chat")
    servers.wait_gone("chat")
    kubectl("create", "-f", "-", stdin=json.dumps(backup))
    restored = servers.wait_settled("chat")
    assert servers.snapshot("chat") == before
    owners = {c["metadata"]["ownerReferences"][0]["uid"] for c in servers.children("chat")}
    assert owners == {restored["metadata"]["uid"]}


def test_replacing_with_force_makes_a_new_one_of_the_same_kind(servers, kubectl):
    servers.create("chat")
    uid = servers.wait_settled("chat")["metadata"]["uid"]
    before = servers.snapshot("chat")
    manifest = servers.manifest("chat", servers.get("chat")["spec"])
    kubectl("replace", "--force", "-f", "-", stdin=json.dumps(manifest))
    assert servers.wait_settled("chat", timeout=60)["metadata"]["uid"] != uid
    wait_until(lambda: servers.snapshot("chat") == before, timeout=30, what="the same state")


def test_a_server_restored_into_another_namespace_is_served_there(
    servers, kubectl, kube, other_namespace
):
    servers.create("chat")
    servers.wait_settled("chat")
    backup = for_another_cluster(exported(servers, kubectl, "chat"))
    others = Servers(kube, other_namespace)
    kube.create(backup | {"metadata": {"name": "chat", "namespace": other_namespace}})
    others.wait_settled("chat")
    assert others.snapshot("chat") == servers.snapshot("chat")


def test_restored_children_of_a_lost_owner_do_not_stop_a_restored_server(servers, kubectl):
    """A backup brings children back with the uid of an owner that is no more."""
    servers.create("chat")
    servers.wait_settled("chat")
    backup = for_another_cluster(exported(servers, kubectl, "chat"))
    account = for_another_cluster(servers.child("ServiceAccount", "chat"))
    servers.delete("chat")
    servers.wait_gone("chat")
    account["metadata"]["namespace"] = backup["metadata"]["namespace"] = servers.namespace
    servers.kube.create({"apiVersion": "v1", "kind": "ServiceAccount"} | account)
    servers.kube.create(backup)
    restored = servers.wait_settled("chat", timeout=60)
    (owner,) = servers.child("ServiceAccount", "chat")["metadata"]["ownerReferences"]
    assert owner["uid"] == restored["metadata"]["uid"]


def test_kubectl_wait_sees_readiness_of_the_latest_generation(servers, kubectl):
    servers.create("chat")
    arguments = ("-n", servers.namespace, "wait", "modelserver/chat", "--timeout=30s")
    kubectl(*arguments, "--for=condition=Ready")
    servers.patch("chat", {"runtime": {"maxModelLength": 64}})
    kubectl(*arguments, "--for=condition=Ready")
    server = servers.get("chat")
    assert server["status"]["observedGeneration"] == server["metadata"]["generation"]


def test_what_was_just_created_does_not_pass_for_ready(servers):
    """kstatus takes no status for a good one, and asks before the operator has looked."""
    made = servers.create("chat")
    assert made["status"] == {"observedGeneration": 0}
    assert made["metadata"]["generation"] == 1
    servers.wait_settled("chat")


def test_what_git_says_can_be_applied_again_and_again_while_a_revision_takes_over(
    servers, kubectl, stage
):
    """As Flux and `kubectl apply` in a pipeline do: nothing differs, so nothing is written."""
    ours = (
        "-n",
        servers.namespace,
        "apply",
        "--server-side",
        "--field-manager=pipeline",
        "-f",
        "-",
    )
    git = json.dumps(servers.manifest("chat", pinned()))
    kubectl(*ours, stdin=git)
    serving = servers.wait_settled("chat")["status"]["servingRevision"]
    with stage.intermission():
        stage.direct(pod_outcomes.starting(stage.progress_address), namespace=servers.namespace)
        stage.direct(pod_outcomes.FINE, namespace=servers.namespace, revision=serving)
    git = json.dumps(servers.manifest("chat", pinned(runtime={"maxModelLength": 64})))
    kubectl(*ours, stdin=git)
    wait_until(lambda: servers.status("chat").get("rollout"), timeout=30, what="a rollout")
    before = servers.get("chat")
    assert kubectl(*ours[:2], "diff", *ours[3:], stdin=git) == ""
    kubectl(*ours, stdin=git)
    after = servers.get("chat")
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert after["spec"] == before["spec"]
    stage.clear()
    assert servers.wait_settled("chat")["status"]["servingRevision"] != serving


def test_a_strangers_service_is_left_alone_and_named(servers):
    servers.kube.create(_strangers_service(servers.namespace))
    servers.create("chat")
    diagnosis = wait_until(
        lambda: servers.status("chat").get("diagnosis"), timeout=20, what="a diagnosis"
    )
    assert "Service" in diagnosis["message"]
    assert "chat" in diagnosis["message"]
    found = servers.child("Service", "chat")
    assert found["spec"]["selector"] == {"app": "mine"}
    assert "ownerReferences" not in found["metadata"]


def test_when_the_stranger_leaves_the_server_takes_its_place(servers):
    servers.kube.create(_strangers_service(servers.namespace))
    servers.create("chat")
    wait_until(lambda: servers.status("chat").get("diagnosis"), timeout=20, what="a diagnosis")
    servers.kube.delete(servers.child_path("Service", "chat"))
    servers.wait_settled("chat", timeout=60)
    assert servers.status("chat").get("diagnosis") is None


def test_a_server_deleted_beside_a_stranger_leaves_the_stranger(servers):
    servers.kube.create(_strangers_service(servers.namespace))
    servers.create("chat")
    wait_until(lambda: servers.status("chat").get("diagnosis"), timeout=20, what="a diagnosis")
    servers.delete("chat")
    wait_until(
        lambda: [c for c in servers.child_names("chat") if c != "Service/chat"] == [],
        timeout=20,
        what="own children gone",
    )
    assert servers.child("Service", "chat")["spec"]["selector"] == {"app": "mine"}


def test_an_object_that_pretends_to_be_a_child_is_not_taken_for_one(servers):
    """Right labels, no owner: adopting or deleting it would be theft."""
    servers.create("chat")
    servers.wait_settled("chat")
    forged = _strangers_service(servers.namespace)
    forged["metadata"]["name"] = "chat-forged"
    forged["metadata"]["labels"] = servers.child("Service", "chat")["metadata"]["labels"]
    servers.kube.create(forged)
    servers.patch("chat", {"replicas": 2})
    servers.wait_settled("chat")
    found = servers.child("Service", "chat-forged")
    assert "ownerReferences" not in found["metadata"]


def test_a_child_orphaned_by_its_servers_deletion_is_not_fought_over(servers):
    """`--cascade=orphan` leaves children; a new server of that name must not get stuck silently."""
    servers.create("chat")
    servers.wait_settled("chat")
    servers.kube.delete(servers.path("chat"), propagationPolicy="Orphan")
    wait_until(lambda: servers.kube.get(servers.path("chat")) is None, timeout=20, what="gone")
    wait_until(lambda: _owners(servers) == set(), timeout=20, what="orphans")
    servers.create("chat")
    diagnosis = wait_until(
        lambda: servers.status("chat").get("diagnosis"), timeout=20, what="a diagnosis"
    )
    assert "chat" in diagnosis["message"]
    assert _owners(servers) <= {servers.get("chat")["metadata"]["uid"]}


def _owners(servers):
    references = [c["metadata"].get("ownerReferences", []) for c in servers.children("chat")]
    return {owner["uid"] for owners in references for owner in owners}


def _uids(servers: Servers):
    return {c["metadata"]["name"]: c["metadata"]["uid"] for c in servers.children("chat")}


def _strangers_service(namespace):
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "chat", "namespace": namespace},
        "spec": {"selector": {"app": "mine"}, "ports": [{"port": 80}]},
    }
