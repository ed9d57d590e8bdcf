"""What the operator's watches did not tell it, it finds out: no ghost stays, nothing is lost."""

import re

import httpx
import pytest

from support.servers import OTHER_COMMIT, pinned
from support.snapshot import difference
from support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("stage")

KINDS = {
    "ServiceAccount": "chat",
    "NetworkPolicy": "chat",
    "Service": "chat",
    "ControllerRevision": "chat-{}",
    "Deployment": "chat-{}",
    "PodDisruptionBudget": "chat-{}",
}
WATCHED = {
    "modelservers",
    "pods",
    "serviceaccounts",
    "networkpolicies",
    "services",
    "controllerrevisions",
    "deployments",
    "poddisruptionbudgets",
    "jobs",
}
HEALED_SECONDS = 20


@pytest.fixture
def proxy(operator):
    """Everything is as it should be before and after a test."""
    _wait_for_watches(operator.proxy)
    yield operator.proxy
    operator.proxy.calm()
    _wait_for_watches(operator.proxy)


def _wait_for_watches(proxy):
    def are_open():
        return {request.resource for request in proxy.open_watches} >= WATCHED

    wait_until(are_open, timeout=30, what="a watch of every kind")


@pytest.fixture
def chat(servers, proxy):
    """A settled server; the name of its revision."""
    servers.create("chat", pinned(replicas=2))
    return servers.wait_settled("chat")["status"]["servingRevision"]


def writes_about(proxy, since, servers, name):
    written = proxy.writes(since, servers.namespace)
    return [str(w) for w in written if re.match(rf"{name}(-|$|\.)", w.request.name)]


def known_servers(operator):
    """How many ModelServers the operator believes in, by its own metrics."""
    found = re.findall(
        r"^modelserver_operator_modelservers\{.*\} (\S+)$", operator.metrics(), re.MULTILINE
    )
    return sum(map(float, found))


def existing_servers(kube):
    return len(kube.items("/apis/modelserver.dev/v1alpha1/modelservers"))


def wait_for_agreement(operator, kube):
    def agree():
        return known_servers(operator) == existing_servers(kube)

    wait_until(agree, timeout=HEALED_SECONDS, what="the operator knows what exists, and no more")


def test_a_server_deleted_in_the_dark_leaves_no_ghost(servers, operator, proxy, chat):
    with proxy.blackout():
        servers.delete("chat")
        servers.wait_gone("chat")
        seen = len(proxy.seen)
    wait_for_agreement(operator, servers.kube)
    assert writes_about(proxy, seen, servers, "chat") == []
    assert servers.child_names("chat") == []


def test_a_server_created_in_the_dark_gets_its_children(servers, proxy):
    with proxy.blackout():
        servers.create("chat")
    servers.wait_settled("chat", timeout=60)


def test_a_server_replaced_in_the_dark_gets_children_of_its_own(servers, operator, proxy, chat):
    with proxy.blackout():
        servers.delete("chat")
        servers.wait_gone("chat")
        uid = servers.create("chat")["metadata"]["uid"]
    servers.wait_settled("chat", timeout=60)
    owners = {c["metadata"]["ownerReferences"][0]["uid"] for c in servers.children("chat")}
    assert owners == {uid}
    wait_for_agreement(operator, servers.kube)


def test_a_change_in_the_dark_is_caught_up_with(servers, proxy, chat):
    with proxy.blackout():
        servers.patch("chat", {"model": {"revision": OTHER_COMMIT}})
    assert servers.wait_settled("chat", timeout=60)["status"]["servingRevision"] != chat


@pytest.mark.parametrize("kind", KINDS)
def test_a_child_deleted_in_the_dark_is_missed_and_made_again(servers, proxy, chat, kind):
    before = servers.snapshot("chat")
    path = servers.child_path(kind, KINDS[kind].format(chat))
    with proxy.blackout():
        servers.kube.delete(path, propagationPolicy="Background")
        servers.kube.wait_gone(path)
    wait_healed(servers, before)


def test_a_child_edited_in_the_dark_is_put_right(servers, proxy, chat):
    before = servers.snapshot("chat")
    with proxy.blackout():
        servers.kube.patch(
            servers.child_path("Service", "chat"), {"spec": {"selector": {"a": "b"}}}
        )
    wait_healed(servers, before)


@pytest.mark.parametrize("resource", ["services", "deployments", "serviceaccounts"])
def test_a_deletion_that_was_never_told_is_found_by_the_next_list(servers, proxy, chat, resource):
    """The stream stays whole and just lacks the event: only a list can tell."""
    before = servers.snapshot("chat")
    kind = {"services": "Service", "deployments": "Deployment"}.get(resource, "ServiceAccount")
    path = servers.child_path(kind, KINDS[kind].format(chat))
    dropped = proxy.drop("DELETED", resource, times=1)
    servers.kube.delete(path, propagationPolicy="Background")
    wait_until(lambda: dropped.names, timeout=10, what="the event dropped")
    with proxy.blackout():
        pass
    wait_healed(servers, before)


def test_a_server_whose_creation_was_never_told_is_found_by_the_next_list(servers, proxy):
    dropped = proxy.drop("ADDED", "modelservers")
    servers.create("chat")
    wait_until(lambda: dropped.names, timeout=10, what="the event dropped")
    with proxy.blackout():
        pass
    servers.wait_settled("chat", timeout=60)


def test_a_servers_untold_deletion_is_found_by_the_next_list(servers, operator, proxy, chat):
    dropped = proxy.drop("DELETED", "modelservers", times=1)
    servers.delete("chat")
    wait_until(lambda: dropped.names, timeout=10, what="the event dropped")
    servers.wait_gone("chat")
    with proxy.blackout():
        pass
    wait_for_agreement(operator, servers.kube)
    assert servers.child_names("chat") == []


def test_a_ghost_gets_no_children_even_before_it_is_found_out(servers, proxy, chat):
    """Its children go one by one while the cache still shows it alive; a live read protects."""
    proxy.drop("DELETED", "modelservers", times=1)
    seen = len(proxy.seen)
    servers.delete("chat")
    servers.wait_gone("chat")
    made = [w for w in proxy.writes(seen, servers.namespace) if w.succeeded]
    # The last news of a living server may still have been on their way.
    assert [str(w) for w in made if w.request.resource not in {"pods", "modelservers"}] == []
    assert servers.child_names("chat") == []


def test_pods_that_ended_in_the_dark_are_not_counted(servers, proxy, chat, stage):
    with stage.intermission():
        with proxy.blackout():
            for pod in servers.pods("chat"):
                path = f"/api/v1/namespaces/{servers.namespace}/pods/{pod['metadata']['name']}"
                answer = servers.kube.ask("DELETE", path, {"gracePeriodSeconds": 0})
                assert answer.status_code in {httpx.codes.OK, httpx.codes.NOT_FOUND}
        servers.wait_condition("chat", "Serving", "False", timeout=HEALED_SECONDS)
    servers.wait_settled("chat")


def test_streams_that_are_cut_again_and_again_lose_nothing(servers, proxy):
    names = [f"chat-{number}" for number in range(6)]
    for name in names:
        servers.create(name)
        proxy.cut_watches()
    for name in names:
        servers.wait_settled(name, timeout=60)


def test_events_that_come_late_lead_to_the_same_end(servers, proxy, chat):
    proxy.lag_seconds = 0.2
    servers.create("tardy", pinned(replicas=2))
    servers.wait_settled("tardy", timeout=60)
    proxy.lag_seconds = 0.0
    assert difference(servers.snapshot("chat"), servers.snapshot("tardy")) == []


def test_a_silent_watch_is_made_up_for_when_it_speaks_again(servers, proxy, chat):
    with proxy.hold_watches():
        servers.patch("chat", {"model": {"revision": OTHER_COMMIT}})
        servers.kube.delete(servers.child_path("ServiceAccount", "chat"))
    assert servers.wait_settled("chat")["status"]["servingRevision"] != chat
    wait_until(
        lambda: servers.child("ServiceAccount", "chat"), timeout=HEALED_SECONDS, what="it is back"
    )


def wait_healed(servers, before):
    def is_healed():
        return difference(before, servers.snapshot("chat")) == []

    try:
        wait_until(is_healed, timeout=HEALED_SECONDS, what="healed", interval=0.1)
    except AssertionError as e:
        raise AssertionError(f"{e}\n{difference(before, servers.snapshot('chat'))}") from e
