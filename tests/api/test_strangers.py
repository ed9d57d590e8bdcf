"""Objects that have a name we want and belong to somebody else."""

import pytest

from support.servers import Servers
from support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("operator", "stage")


def foreign(servers: Servers, name="chat"):
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": servers.namespace},
        "spec": {"selector": {"app": "theirs"}, "ports": [{"port": 1234}]},
    }


def test_an_object_of_somebody_else_is_not_touched_and_its_end_is_noticed(servers):
    """It has none of our labels, so no watch of ours ever shows it."""
    before = servers.kube.create(foreign(servers))
    servers.create("chat")
    servers.wait_diagnosis("chat", "NameConflict")
    assert servers.child("Service", "chat") == before
    servers.kube.delete(servers.child_path("Service", "chat"))
    servers.wait_settled("chat", timeout=30)
    assert servers.child("Service", "chat")["metadata"]["ownerReferences"]


def test_children_of_a_backup_whose_owner_is_gone_make_room(servers):
    """A backup restores children with an ownerReference to a uid that no longer exists."""
    servers.create("chat")
    servers.wait_settled("chat")
    account = servers.child("ServiceAccount", "chat")
    servers.delete("chat")
    servers.wait_gone("chat", timeout=60)
    for field in ("uid", "resourceVersion", "managedFields", "creationTimestamp"):
        account["metadata"].pop(field)
    servers.kube.create({"apiVersion": "v1", "kind": "ServiceAccount"} | account)
    restored = servers.create("chat")
    servers.wait_settled("chat", timeout=60)
    owner = servers.child("ServiceAccount", "chat")["metadata"]["ownerReferences"][0]
    assert owner["uid"] == restored["metadata"]["uid"]


def test_a_child_without_our_labels_is_found_and_put_right(servers):
    """For the watch it was deleted; only the API server knows that it is there."""
    servers.create("chat")
    servers.wait_settled("chat")
    path = servers.child_path("ServiceAccount", "chat")
    uid = servers.kube.get(path)["metadata"]["uid"]
    servers.kube.patch(path, {"metadata": {"labels": None}})
    wait_until(
        lambda: servers.kube.get(path)["metadata"].get("labels", {}).get("modelserver.dev/server"),
        timeout=10,
        what="the labels back",
    )
    assert servers.kube.get(path)["metadata"]["uid"] == uid
