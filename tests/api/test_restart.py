"""What happened while no operator ran is made good when one runs again."""

import pytest

from support.servers import OTHER_COMMIT, pinned
from support.waiting import wait_until


@pytest.fixture
def operator(make_operator):
    """By its command line, as the image starts it."""
    return make_operator(forked=False).start()


def test_a_namespace_can_be_deleted_while_the_operator_is_down(servers, operator):
    servers.create("chat", pinned(replicas=2))
    servers.wait_settled("chat")
    operator.stop()
    path = f"/api/v1/namespaces/{servers.namespace}"
    servers.kube.delete(path)
    servers.kube.wait_gone(path, timeout=60)


def test_a_server_deleted_while_the_operator_is_down_leaves_nothing(servers, operator):
    servers.create("chat")
    servers.wait_settled("chat")
    operator.stop()
    servers.delete("chat")
    servers.wait_gone("chat")
    seen = len(operator.proxy.seen)
    operator.start()
    servers.create("later")
    servers.wait_settled("later")
    assert servers.child_names("chat") == []
    names = {write.request.name for write in operator.proxy.writes(seen, servers.namespace)}
    assert not any(name == "chat" or name.startswith("chat-") for name in names)


def test_what_changed_while_the_operator_was_down_is_caught_up_with(servers, operator):
    servers.create("chat")
    old = servers.wait_settled("chat")["status"]["servingRevision"]
    operator.stop()
    servers.patch("chat", {"model": {"revision": OTHER_COMMIT}})
    servers.kube.delete(servers.child_path("ServiceAccount", "chat"))
    servers.create("new")
    operator.start()
    servers.wait_settled("new")
    assert servers.wait_settled("chat")["status"]["servingRevision"] != old
    assert servers.child("ServiceAccount", "chat")


def test_a_server_replaced_by_another_of_its_name_meanwhile_gets_new_children(servers, operator):
    """The old children carry the old uid; the garbage collector takes them, not the new server."""
    servers.create("chat")
    servers.wait_settled("chat")
    operator.stop()
    servers.delete("chat")
    uid = servers.create("chat")["metadata"]["uid"]
    operator.start()
    servers.wait_settled("chat", timeout=60)

    def owners():
        return {c["metadata"]["ownerReferences"][0]["uid"] for c in servers.children("chat")}

    wait_until(lambda: owners() == {uid}, timeout=20, what="children of the new server only")
