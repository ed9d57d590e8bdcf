"""One reconciliation with the real planner and status, on an API in memory."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelserver_operator.cluster.client import ObjectName
from modelserver_operator.config import OperatorConfig
from modelserver_operator.errors import Conflict, NotLeading, OperatorError, Unavailable
from modelserver_operator.plan.answers import NOTHING_HEARD
from modelserver_operator.reconciler.caches import Caches
from modelserver_operator.reconciler.reconciler import STRANGER_SECONDS, Probes, Reconciler
from support import pod_outcomes
from support.memory_api import MemoryApi
from support.snapshot import snapshot_of

CHAT = ObjectName("default", "chat")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CHILDREN = {
    "ControllerRevision",
    "Deployment",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "Service",
    "ServiceAccount",
}


class Guard:
    """Leads until it is told that it has only so many writes left."""

    left = None

    def check(self):
        if self.left == 0:
            raise NotLeading
        if self.left:
            self.left -= 1


class Silent:
    def __init__(self):
        self.asked = []

    async def read(self, pods):
        self.asked.append([pod["metadata"]["name"] for pod in pods])
        return {}


class Rumours:
    """What the kubelet says about volumes that are not mounted: the same about every pod."""

    def __init__(self):
        self.said, self.asked = "", []

    async def read(self, pods):
        names = [pod["metadata"]["name"] for pod in pods]
        self.asked.append(names)
        return dict.fromkeys(names, self.said) if self.said else {}


class Unheard:
    """Nobody answers what it has counted."""

    async def read(self, _pods, _questions):
        return NOTHING_HEARD


class Desk:
    """A reconciler, its caches and the API that they are caches of."""

    def __init__(self, **spec):
        self.api, self.caches = MemoryApi(), Caches()
        self.guard, self.probe, self.mounts = Guard(), Silent(), Rumours()
        self.absorbed, self.decided = [], []
        self.reconciler = Reconciler(
            self.api,
            self.caches,
            OperatorConfig(runtime_image="runtime:1", identity="test"),
            guard=self.guard,
            probes=Probes(
                progress=self.probe,
                mounts=self.mounts,
                readings=Unheard(),
                checks=Unheard(),
                measuring=Unheard(),
                scaling=Unheard(),
            ),
            clock=lambda: NOW,
            absorb=self.absorbed.append,
            decided=self.decided.append,
        )
        self.server = self.store_server(spec)

    def store_server(self, spec, **metadata):
        manifest = {
            "apiVersion": "modelserver.dev/v1alpha1",
            "kind": "ModelServer",
            "metadata": {"name": "chat", "namespace": "default", "generation": 1, **metadata},
            "spec": {"model": {"uri": "pvc://models/tiny"}, "replicas": 2, **spec},
        }
        stored = self.api.put(manifest)
        self.caches.servers.put(stored)
        return stored

    async def reconcile(self):
        return await self.reconciler.reconcile(CHAT)

    async def settle(self):
        """As the queue does: again after a failure, until nothing is left."""
        for _ in range(50):
            try:
                verdict = await self.reconcile()
            except OperatorError:
                self.guard.left = None
                continue
            if not (verdict.wrote or verdict.unsettled):
                return
        raise AssertionError(f"never at rest: {self.api.calls[-20:]}")

    def snapshot(self):
        (server,) = self.api.here("ModelServer")
        return snapshot_of(
            server, [one for kind in CHILDREN for one in self.api.here(kind)], "chat"
        )


@pytest.fixture
def desk():
    return Desk()


async def test_children_are_made_and_the_status_is_written_last_and_once(desk):
    verdict = await desk.reconcile()
    assert verdict.wrote
    assert {kind for kind, _ in desk.api.objects} >= CHILDREN
    statuses = [n for n, write in enumerate(desk.api.writes) if write.startswith("status ")]
    applies = [n for n, write in enumerate(desk.api.writes) if write.startswith("apply ")]
    assert len(statuses) == 1
    assert statuses[0] > max(applies)


async def test_policies_come_before_the_pods_that_they_confine(desk):
    await desk.reconcile()
    kinds = [write.split()[1] for write in desk.api.writes]
    assert kinds.index("NetworkPolicy") < kinds.index("Deployment")


async def test_nothing_is_asked_of_the_api_when_nothing_differs(desk):
    await desk.settle()
    before = len(desk.api.calls)
    verdict = await desk.reconcile()
    assert not verdict.wrote
    assert desk.api.calls[before:] == []


async def test_the_server_is_read_before_the_first_write(desk):
    await desk.reconcile()
    assert desk.api.calls[0] == "get ModelServer chat"


async def test_a_ghost_gets_no_children_and_is_forgotten(desk):
    del desk.api.objects["ModelServer", CHAT]
    await desk.reconcile()
    assert desk.api.writes == []
    assert desk.caches.servers.get(CHAT) is None


async def test_a_namesake_gets_its_own_children_not_those_of_the_ghost(desk):
    old = desk.server["metadata"]["uid"]
    del desk.api.objects["ModelServer", CHAT]
    new = desk.api.put(desk.server | {"metadata": desk.server["metadata"] | {"uid": "new"}})
    await desk.settle()
    owners = {
        child["metadata"]["ownerReferences"][0]["uid"]
        for kind in CHILDREN
        for child in desk.api.here(kind)
    }
    assert owners == {new["metadata"]["uid"]}
    assert old not in owners


async def test_what_is_planned_is_planned_for_the_live_server(desk):
    """The cache has not heard of the change yet."""
    spec = desk.server["spec"] | {"replicas": 5}
    desk.api.put(desk.server | {"spec": spec})
    await desk.reconcile()
    (deployment,) = desk.api.here("Deployment")
    assert deployment["spec"]["replicas"] == 5


async def test_a_server_that_is_being_deleted_is_left_to_the_cluster(desk):
    await desk.settle()
    going = desk.server["metadata"] | {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    desk.caches.servers.put(desk.api.put(desk.server | {"metadata": going}))
    before = len(desk.api.calls)
    await desk.reconcile()
    assert desk.api.calls[before:] == []


async def test_a_refused_write_stops_those_after_it_and_is_told(desk):
    desk.api.refused_kinds = {"NetworkPolicy"}
    verdict = await desk.reconcile()
    assert verdict.unsettled
    assert desk.api.here("Deployment") == []
    (server,) = desk.api.here("ModelServer")
    assert "quota" in server["status"]["diagnosis"]["message"].lower()
    desk.api.refused_kinds = set()
    await desk.settle()
    assert len(desk.api.here("Deployment")) == 1


async def test_a_refusal_that_lasts_is_told_once(desk):
    desk.api.refused_kinds = {"Deployment"}
    await desk.reconcile()
    before = len(desk.api.writes)
    for _ in range(5):
        await desk.reconcile()
    later = [write for write in desk.api.writes[before:] if not write.startswith("apply ")]
    assert later == []


async def test_a_stale_cache_overwrites_nothing(desk):
    """Somebody has changed the Deployment, and we have not heard of it."""
    await desk.settle()
    (deployment,) = desk.api.here("Deployment")
    deployment["spec"]["replicas"] = 9
    desk.api.put(deployment)
    desk.store_server({"replicas": 3}, uid=desk.server["metadata"]["uid"], generation=2)
    with pytest.raises(Conflict):
        await desk.reconcile()
    await desk.settle()
    (deployment,) = desk.api.here("Deployment")
    assert deployment["spec"]["replicas"] == 3


async def test_a_child_that_was_deleted_behind_our_back_is_made_again(desk):
    await desk.settle()
    (deployment,) = desk.api.here("Deployment")
    del desk.api.objects["Deployment", ObjectName("default", deployment["metadata"]["name"])]
    desk.store_server({"replicas": 3}, uid=desk.server["metadata"]["uid"], generation=2)
    await desk.settle()
    assert len(desk.api.here("Deployment")) == 1


async def test_an_object_of_somebody_else_is_left_alone_and_asked_for_again(desk):
    foreign = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "chat"}, "spec": {}}
    foreign["metadata"]["namespace"] = "default"
    before = desk.api.put(foreign)
    await desk.settle()
    assert desk.api.objects["Service", CHAT] == before
    (server,) = desk.api.here("ModelServer")
    assert server["status"]["diagnosis"]["code"] == "NameConflict"
    assert (await desk.reconcile()).again_after_seconds <= STRANGER_SECONDS
    del desk.api.objects["Service", CHAT]
    await desk.settle()
    assert desk.api.objects["Service", CHAT]["metadata"]["ownerReferences"]


async def test_who_does_not_lead_any_more_writes_nothing_more(desk):
    desk.guard.left = 2
    with pytest.raises(NotLeading):
        await desk.reconcile()
    assert len(desk.api.writes) == 2


async def test_an_unreadable_server_is_told_and_its_children_stay(desk):
    await desk.settle()
    before = {key: one for key, one in desk.api.objects.items() if key[0] in CHILDREN}
    broken = {"model": {"uri": "ftp://nowhere"}}
    desk.store_server(broken, uid=desk.server["metadata"]["uid"], generation=2)
    await desk.settle()
    (server,) = desk.api.here("ModelServer")
    assert server["status"]["diagnosis"]["code"] == "InvalidResource"
    assert {key: one for key, one in desk.api.objects.items() if key[0] in CHILDREN} == before


async def test_the_echo_of_our_own_writes_is_no_reason_to_look_again(desk):
    await desk.reconcile()
    assert desk.absorbed == [CHAT]


async def test_a_change_of_the_server_while_we_write_is_looked_at(desk):
    """News of it arrive before our children are written."""
    apply = desk.api.apply

    async def apply_late(kind, manifest, *, version):
        if kind.kind == "Deployment":
            uid = desk.server["metadata"]["uid"]
            desk.store_server({"replicas": 4}, uid=uid, generation=2)
        return await apply(kind, manifest, version=version)

    desk.api.apply = apply_late
    with pytest.raises(Conflict):
        await desk.reconcile()
    assert desk.absorbed == []


async def test_a_change_that_comes_right_after_our_status_is_looked_at(desk):
    """Its news come while we wait for the answer, together with the echo of our own write."""
    apply_status = desk.api.apply_status

    async def overtaken(where, status, *, uid, version):
        written = await apply_status(where, status, uid=uid, version=version)
        assert desk.caches.servers.put(written) == set()
        changed = written | {"spec": written["spec"] | {"replicas": 7}}
        assert desk.caches.servers.put(desk.api.put(changed)) == set()
        desk.api.apply_status = apply_status
        return written

    desk.api.apply_status = overtaken
    verdict = await desk.reconcile()
    assert verdict.unsettled
    await desk.settle()
    assert desk.api.here("Deployment")[0]["spec"]["replicas"] == 7


def add_pod(desk, outcome):
    """A pod of the only Deployment, as the store shows it."""
    (deployment,) = desk.api.here("Deployment")
    template, name = deployment["spec"]["template"], deployment["metadata"]["name"]
    owner = {"kind": "ReplicaSet", "name": f"{name}-abc", "controller": True}
    metadata = template["metadata"] | {
        "name": f"{name}-abc-1",
        "namespace": "default",
        "uid": "pod-1",
        "ownerReferences": [owner],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    desk.caches.of["Pod"].put(desk.api.put(pod | {"status": outcome.status_of(pod)}))


async def test_a_pod_that_waits_for_its_volumes_is_asked_about_in_the_same_look(desk):
    """Also in the first one of a new replica: no status is written that knows less."""
    await desk.settle()
    add_pod(desk, pod_outcomes.not_mounted(since="2025-12-31T23:00:00Z"))
    desk.mounts.said = 'MountVolume.SetUp failed for volume "api-keys" : secret "k" not found'
    before = len(desk.api.writes)
    await desk.settle()
    (server,) = desk.api.here("ModelServer")
    assert server["status"]["diagnosis"]["code"] == "SecretMissing"
    statuses = [write for write in desk.api.writes[before:] if write.startswith("status ")]
    assert len(statuses) == 1
    at_rest = len(desk.api.writes)
    verdict = await desk.reconcile()
    assert len(desk.api.writes) == at_rest
    assert verdict.again_after_seconds == 60


async def test_nobody_is_asked_about_volumes_while_none_is_waited_for(desk):
    await desk.settle()
    add_pod(desk, pod_outcomes.FINE)
    await desk.settle()
    assert desk.mounts.asked == []


async def test_events_are_written_after_the_status_they_tell_of(desk):
    await desk.settle()
    events = [n for n, write in enumerate(desk.api.writes) if write.startswith("create Event")]
    statuses = [n for n, write in enumerate(desk.api.writes) if write.startswith("status ")]
    assert all(any(status < event for status in statuses) for event in events)


async def end_of(failures):
    desk = Desk()
    desk.api.fail = dict(failures)
    await desk.settle()
    desk.store_server({"replicas": 1}, uid=desk.server["metadata"]["uid"], generation=2)
    await desk.settle()
    return desk.snapshot()


FAILURES = st.dictionaries(
    st.integers(1, 30),
    st.sampled_from(
        [
            Unavailable("down", status=503),
            Unavailable("busy", status=429, retry_after_seconds=1),
            Conflict("modified", status=409),
            NotLeading(),
        ]
    ),
    max_size=8,
)


@settings(deadline=None, max_examples=40)
@given(FAILURES)
async def test_whatever_fails_on_the_way_the_end_is_the_same(failures):
    assert await end_of(failures) == await end_of({})
