"""The rig itself: each fault that the proxy can make is really felt by a client."""

import json
import threading
from collections.abc import Iterator

import httpx
import pytest

from support import pod_outcomes
from support.api_request import ApiRequest
from support.audit import AuditLog
from support.fault_proxy import FaultProxy
from support.manifests import Permission, permissions, relocated, without
from support.snapshot import difference, snapshot_of
from support.waiting import wait_until

CONFIG_MAPS = "/api/v1/namespaces/{}/configmaps"


class Target:
    """What a kill point kills here."""

    def __init__(self):
        self.killed = 0

    def kill(self):
        self.killed += 1


@pytest.fixture
def proxy(cluster):
    with FaultProxy(cluster.url, ca_file=cluster.ca_file) as made:
        yield made


@pytest.fixture
def client(cluster, proxy) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {cluster.admin_token}"}
    with httpx.Client(base_url=proxy.url, headers=headers, timeout=10) as http:
        yield http


def config_map(name):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}


class Watcher:
    """Watches ConfigMaps as a simple client does: from a version, again and again."""

    def __init__(self, client, namespace):
        self.events = []
        self._client = client
        self._path = CONFIG_MAPS.format(namespace)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        version = self._client.get(self._path).json()["metadata"]["resourceVersion"]
        while not self._stopped.is_set():
            query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "1"}
            try:
                with self._client.stream("GET", self._path, params=query) as answer:
                    for line in answer.iter_lines():
                        version = self._see(json.loads(line)) or version
            except httpx.TransportError:
                self.events.append(("CUT", ""))
                self._stopped.wait(0.05)

    def _see(self, event):
        metadata = event["object"]["metadata"]
        self.events.append((event["type"], metadata.get("name") or str(event["object"]["code"])))
        return metadata.get("resourceVersion")

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopped.set()
        self._thread.join()

    def wait_for(self, type_, name):
        wait_until(lambda: (type_, name) in self.events, timeout=5, what=f"{type_} {name}")


@pytest.fixture
def watcher(client, namespace, proxy):
    with Watcher(client, namespace) as watching:
        wait_until(lambda: proxy.open_watches, timeout=5, what="an open watch", interval=0.01)
        yield watching


def test_every_write_is_numbered_and_reads_are_not(client, proxy, namespace):
    client.get("/api/v1/namespaces")
    client.post(CONFIG_MAPS.format(namespace), json=config_map("one"))
    client.delete(f"{CONFIG_MAPS.format(namespace)}/one")
    assert [str(seen) for seen in proxy.writes()] == [
        f"create configmaps {namespace}/ -> 201",
        f"delete configmaps {namespace}/one -> 200",
    ]


@pytest.mark.parametrize(("side", "exists"), [("before", False), ("after", True)])
def test_a_kill_strikes_at_the_chosen_write_and_side(client, proxy, kube, namespace, side, exists):
    target = Target()
    point = proxy.kill_at(2, side, target)
    path = CONFIG_MAPS.format(namespace)
    client.post(path, json=config_map("one"))
    with pytest.raises(httpx.RemoteProtocolError):
        client.post(path, json=config_map("two"))
    client.post(path, json=config_map("three"))
    assert (target.killed, point.done.is_set()) == (1, True)
    assert kube.get(f"{path}/one")
    assert kube.get(f"{path}/three")
    assert bool(kube.get(f"{path}/two")) is exists


def test_a_failure_is_met_as_often_as_said(client, proxy):
    failure = proxy.fail(503, verbs={"list"}, resources={"namespaces"}, times=1)
    statuses = [client.get("/api/v1/namespaces").status_code for _ in range(2)]
    assert (statuses, failure.met) == ([503, 200], 1)


def test_a_postponed_request_arrives_when_it_is_released(client, proxy, kube, namespace):
    path = CONFIG_MAPS.format(namespace)
    postponed = proxy.postpone()
    impatient = httpx.Timeout(0.2)
    with pytest.raises(httpx.ReadTimeout):
        client.post(path, json=config_map("one"), timeout=impatient)
    assert postponed.arrived.is_set()
    assert kube.get(f"{path}/one") is None
    proxy.release(postponed)
    assert postponed.answered.wait(5)
    assert (postponed.status, bool(kube.get(f"{path}/one"))) == (201, True)


def test_lists_can_be_forced_into_pages(client, proxy):
    proxy.page_size = 1
    answer = client.get("/api/v1/namespaces").json()
    assert (len(answer["items"]), bool(answer["metadata"]["continue"])) == (1, True)


def test_too_many_requests_says_when_to_come_back(client, proxy):
    with proxy.failing(429, retry_after=2):
        answer = client.get("/api/v1/namespaces")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")


def test_a_revoked_token_is_refused(client, proxy, cluster):
    proxy.revoke(cluster.admin_token)
    assert client.get("/api/v1/namespaces").status_code == 401
    proxy.calm()
    assert client.get("/api/v1/namespaces").status_code == 200


def test_a_dropped_event_is_never_seen(watcher, proxy, kube, namespace):
    dropped = proxy.drop("DELETED", "configmaps", times=1)
    kube.create(_in(namespace, "one"))
    watcher.wait_for("ADDED", "one")
    kube.delete(f"{CONFIG_MAPS.format(namespace)}/one")
    kube.create(_in(namespace, "two"))
    watcher.wait_for("ADDED", "two")
    assert dropped.names == ["one"]
    assert ("DELETED", "one") not in watcher.events


def test_a_held_stream_is_silent_and_then_complete(watcher, proxy, kube, namespace):
    with proxy.hold_watches():
        kube.create(_in(namespace, "one"))
        wait_until(lambda: proxy.held_back == 1, timeout=5, what="an event held back")
        assert watcher.events == []
    watcher.wait_for("ADDED", "one")


def test_a_blackout_cuts_and_then_answers_gone(watcher, proxy, kube, namespace):
    with proxy.blackout():
        kube.create(_in(namespace, "one"))
        wait_until(lambda: watcher.events.count(("CUT", "")) > 1, timeout=5, what="refused watches")
    watcher.wait_for("ERROR", "410")


def test_an_injected_error_ends_the_stream(watcher, proxy):
    assert proxy.send_error(500, "configmaps") == 1
    watcher.wait_for("ERROR", "500")
    watcher.wait_for("CUT", "")


def test_the_audit_log_knows_who_wrote(audit: AuditLog, kube, namespace):
    mark = audit.mark()
    kube.create(_in(namespace, "one"))
    written = [entry.request for entry in audit.writes_of("admin-token", mark)]
    expected = ApiRequest(verb="create", resource="configmaps", namespace=namespace, name="one")
    assert expected in written


def test_the_stage_gives_pods_the_life_it_is_told(kube, namespace, stage):
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/chat"
    stage.direct(pod_outcomes.unschedulable(), server="chat")
    kube.create(_deployment(namespace))
    pods = f"/api/v1/namespaces/{namespace}/pods"
    wait_until(lambda: _reasons(kube.items(pods)) == ["Unschedulable"], timeout=10, what="pending")
    stage.direct(pod_outcomes.FINE, server="chat")
    wait_until(lambda: kube.get(path)["status"].get("readyReplicas"), timeout=10, what="ready")


def test_a_snapshot_forgets_what_may_differ_and_nothing_else():
    def service(name, uid, port):
        metadata = {"name": name, "uid": uid, "ownerReferences": [{"name": name, "uid": uid}]}
        return {"kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": port}]}}

    one = snapshot_of(None, [service("a-one", "1", 80)], "a-one")
    same = snapshot_of(None, [service("b-two", "2", 80)], "b-two")
    other = snapshot_of(None, [service("b-two", "2", 81)], "b-two")
    assert difference(one, same) == []
    assert difference(one, other) == [
        "/children/Service/NAME/spec/ports/0/port: expected 80, found 81"
    ]


ROLE = {
    "kind": "ClusterRole",
    "metadata": {"name": "worker"},
    "rules": [{"apiGroups": [""], "resources": ["pods", "services"], "verbs": ["get", "list"]}],
}
BINDING = {
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "worker"},
    "roleRef": {"kind": "ClusterRole", "name": "worker"},
    "subjects": [{"kind": "ServiceAccount", "name": "worker", "namespace": "home"}],
}


def test_a_permission_is_taken_from_its_resource_only():
    taken = Permission("ClusterRole", "", "pods", "list")
    before = permissions([ROLE, BINDING], "worker")
    after = permissions(without([ROLE, BINDING], taken), "worker")
    assert before - after == {taken}
    assert after < before


def test_a_relocated_installation_binds_its_own_roles():
    home = {"kind": "Namespace", "metadata": {"name": "home"}}
    moved = relocated([home, ROLE, BINDING], "elsewhere")
    binding = moved[2]
    assert binding["roleRef"]["name"] == moved[1]["metadata"]["name"] == "worker-elsewhere"
    assert binding["subjects"][0]["namespace"] == moved[0]["metadata"]["name"] == "elsewhere"


def _in(namespace, name):
    manifest = config_map(name)
    manifest["metadata"]["namespace"] = namespace
    return manifest


def _deployment(namespace):
    secure = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {"name": "main", "image": "none", "securityContext": secure}
    labels = {"modelserver.dev/server": "chat"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "chat", "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def _reasons(pods):
    conditions = [c for pod in pods for c in pod.get("status", {}).get("conditions", [])]
    return [condition.get("reason") for condition in conditions]
