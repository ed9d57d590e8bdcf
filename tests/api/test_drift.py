"""Children that somebody deletes or edits come back as they were, within seconds."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from support.servers import MANAGER, Servers, unpinned
from support.snapshot import difference
from support.waiting import wait_until

HEALED_SECONDS = 20


@dataclass(frozen=True)
class Child:
    """One kind of child, by how its name follows from the server's name and revision."""

    kind: str
    suffix: str = ""  # "{}" stands for the revision

    def name(self, servers: Servers, server: str) -> str:
        if "{}" not in self.suffix:
            return server + self.suffix
        return server + self.suffix.format(servers.status(server)["servingRevision"])


CHILDREN = {
    "ControllerRevision": Child("ControllerRevision", "-{}"),
    "ServiceAccount": Child("ServiceAccount"),
    "NetworkPolicy of serving": Child("NetworkPolicy"),
    "NetworkPolicy of fetching": Child("NetworkPolicy", "-fetch"),
    "Deployment": Child("Deployment", "-{}"),
    "Service of the revision": Child("Service", "-{}"),
    "root Service": Child("Service"),
    "PodDisruptionBudget": Child("PodDisruptionBudget", "-{}"),
}

EDITS: dict[str, list[dict]] = {
    "ControllerRevision": [{"metadata": {"labels": {"modelserver.dev/revision": "other"}}}],
    "ServiceAccount": [{"automountServiceAccountToken": True}],
    "NetworkPolicy of serving": [{"spec": {"egress": [{}]}}, {"spec": {"podSelector": None}}],
    "NetworkPolicy of fetching": [{"spec": {"egress": [{}]}}],
    "Deployment": [
        {"spec": {"replicas": 5}},
        {"spec": {"template": {"spec": {"automountServiceAccountToken": True}}}},
        {"metadata": {"annotations": {"modelserver.dev/desired-hash": None}}},
    ],
    "Service of the revision": [{"spec": {"selector": {"modelserver.dev/revision": "other"}}}],
    "root Service": [
        {"spec": {"selector": {"modelserver.dev/revision": "other"}}},
        {"spec": {"ports": [{"port": 81, "targetPort": 8080}]}},
        {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}},
        {"metadata": {"labels": {"modelserver.dev/server": "other"}}},
    ],
    "PodDisruptionBudget": [{"spec": {"maxUnavailable": 5}}],
}

# What nobody asked for, beside what we set.
ADDITIONS: dict[str, dict] = {
    "root Service": {"spec": {"selector": {"color": "blue"}}},
    "NetworkPolicy of serving": {"spec": {"podSelector": {"matchLabels": {"color": "blue"}}}},
    "NetworkPolicy of fetching": {"spec": {"ingress": [{}], "policyTypes": ["Ingress", "Egress"]}},
    "Service of the revision": {"spec": {"externalIPs": ["192.0.2.1"]}},
    "PodDisruptionBudget": {"spec": {"unhealthyPodEvictionPolicy": "IfHealthyBudget"}},
    "Deployment": {"spec": {"template": {"spec": {"nodeSelector": {"color": "blue"}}}}},
}


@pytest.fixture(scope="module")
def module_servers(kube, stage, operator, module_namespace):
    return Servers(kube, module_namespace)


@pytest.fixture
def healthy(module_servers, request):
    """A server of its own for every case: who heals one often is slowed down on purpose."""
    name = f"chat-{zlib.crc32(request.node.name.encode()):08x}"
    module_servers.create(name, unpinned(replicas=2))
    module_servers.wait_settled(name)
    wait_until(lambda: not jobs(module_servers, name), timeout=20, what="the resolving Job gone")
    return name


def jobs(servers, name):
    return [child for child in servers.children(name) if child["kind"] == "Job"]


def assert_heals(servers: Servers, name: str, spoil: Callable[[], object]) -> None:
    before = servers.snapshot(name)
    spoil()

    def is_healed():
        return difference(before, servers.snapshot(name)) == []

    try:
        wait_until(is_healed, timeout=HEALED_SECONDS, what="healed", interval=0.1)
    except AssertionError as e:
        lines = "\n".join(difference(before, servers.snapshot(name)))
        raise AssertionError(f"{e}\n{lines}") from e


@pytest.mark.parametrize("which", CHILDREN)
def test_a_deleted_child_comes_back(module_servers, healthy, which):
    child = CHILDREN[which]
    path = module_servers.child_path(child.kind, child.name(module_servers, healthy))
    uid = module_servers.kube.get(path)["metadata"]["uid"]

    def spoil():
        module_servers.kube.delete(path, propagationPolicy="Background")
        wait_until(
            lambda: (module_servers.kube.get(path) or {}).get("metadata", {}).get("uid") != uid,
            timeout=HEALED_SECONDS,
            what="the old one gone",
            interval=0.02,
        )

    assert_heals(module_servers, healthy, spoil)
    assert module_servers.kube.get(path)["metadata"]["uid"] != uid


@pytest.mark.parametrize(
    ("which", "edit"), [(which, edit) for which, edits in EDITS.items() for edit in edits]
)
def test_an_edited_child_is_put_right(module_servers, healthy, which, edit):
    _edit_and_expect_healing(module_servers, healthy, which, edit)


@pytest.mark.parametrize("which", ADDITIONS)
def test_what_others_add_is_taken_out(module_servers, healthy, which):
    _edit_and_expect_healing(module_servers, healthy, which, ADDITIONS[which])


def _edit_and_expect_healing(servers, name, which, edit):
    child = CHILDREN[which]
    path = servers.child_path(child.kind, child.name(servers, name))
    version = servers.kube.get(path)["metadata"]["resourceVersion"]

    def spoil():
        changed = servers.kube.patch(path, edit)
        assert changed["metadata"]["resourceVersion"] != version, "the edit changed nothing"

    assert_heals(servers, name, spoil)


def test_an_owner_reference_taken_away_comes_back_or_is_reported(module_servers, healthy):
    """Without its owner the child would outlive the server; nobody else has claimed it."""
    path = module_servers.child_path("ServiceAccount", healthy)
    module_servers.kube.patch(path, {"metadata": {"ownerReferences": None}})

    def is_settled():
        owned = module_servers.kube.get(path)["metadata"].get("ownerReferences")
        return owned or module_servers.status(healthy).get("diagnosis")

    wait_until(is_settled, timeout=HEALED_SECONDS, what="owned again, or a diagnosis")


def test_kubectl_rollout_restart_is_respected(module_servers, healthy, kubectl):
    """People rely on it; undoing it would be a fight between them and the operator."""
    child = CHILDREN["Deployment"].name(module_servers, healthy)
    pods = {pod["metadata"]["uid"] for pod in module_servers.pods(healthy)}
    kubectl("-n", module_servers.namespace, "rollout", "restart", f"deployment/{child}")

    def are_new():
        now = [p for p in module_servers.pods(healthy) if "deletionTimestamp" not in p["metadata"]]
        return len(now) == 2 and not pods & {pod["metadata"]["uid"] for pod in now}

    wait_until(are_new, timeout=20, what="both pods replaced")
    module_servers.wait_settled(healthy)


def test_a_pinned_model_is_not_resolved_again(module_servers, healthy):
    """A second Job could give a second answer: weights would change under a running server."""
    before = module_servers.get(healthy)["status"]["servingRevision"]
    module_servers.kube.delete(
        module_servers.child_path("ControllerRevision", f"{healthy}-{before}")
    )
    module_servers.patch(healthy, {"replicas": 1})
    assert module_servers.wait_settled(healthy)["status"]["servingRevision"] == before
    assert jobs(module_servers, healthy) == []


def test_nobody_but_the_operator_owns_what_it_set(module_servers, healthy):
    for child in module_servers.children(healthy):
        managers = {
            entry["manager"]
            for entry in child["metadata"]["managedFields"]
            if "subresource" not in entry
        }
        assert managers <= {MANAGER, "kube-controller-manager"}, child["kind"]
