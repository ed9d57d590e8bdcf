"""Two replicas: one writes, the other takes over, and they never write against each other."""

from collections import Counter

import httpx
import pytest

from support.servers import OTHER_COMMIT, pinned
from support.snapshot import difference
from support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("stage")

# The Lease of these tests holds for 3 s and is tried for every half second.
TAKEOVER_SECONDS = 8

REPORT, LABEL = ("patch", "modelservers/status"), ("patch", "pods")
MOST_REPORTS = 4  # children made, a pod made, one ready, both ready
MOST_LABELS = 2  # one for each pod


class Pair:
    """Two replicas, each behind a proxy of its own, and the Lease that decides between them."""

    def __init__(self, make_operator, kube):
        self.kube = kube
        self.replicas = {name: make_operator(name) for name in ("replica-a", "replica-b")}
        for replica in self.replicas.values():
            replica.start()
        self.wait_for_leader()

    def holder(self):
        path = "/apis/coordination.k8s.io/v1/namespaces/modelserver-system/leases"
        lease = self.kube.get(f"{path}/modelserver-operator") or {}
        return lease.get("spec", {}).get("holderIdentity") or None

    def wait_for_leader(self, other_than=None):
        def look():
            holder = self.holder()
            return holder in self.replicas and holder != other_than and holder

        return wait_until(look, timeout=TAKEOVER_SECONDS, what="a leader", interval=0.05)

    @property
    def leader(self):
        return self.replicas[self.wait_for_leader()]

    @property
    def follower(self):
        (name,) = self.replicas.keys() - {self.leader.identity}
        return self.replicas[name]


@pytest.fixture
def pair(make_operator, kube):
    return Pair(make_operator, kube)


class Freezer:
    """For the proxy's kill point: stops the process instead of killing it."""

    def __init__(self, replica):
        self._replica = replica

    def kill(self):
        self._replica.freeze()


def test_only_the_leader_writes_and_both_are_ready(pair, servers):
    servers.create("chat")
    servers.wait_settled("chat")
    assert pair.leader.proxy.writes(namespace=servers.namespace)
    assert pair.follower.proxy.writes() == []
    assert pair.follower.probe("/readyz") == httpx.codes.OK


def test_a_leader_that_stops_hands_over_at_once(pair, servers):
    leader, follower = pair.leader, pair.follower
    leader.stop()
    assert pair.wait_for_leader(other_than=leader.identity) == follower.identity
    servers.create("chat")
    servers.wait_settled("chat")
    assert leader.proxy.writes(namespace=servers.namespace) == []


@pytest.mark.parametrize("number", [1, 4, 8])
def test_a_leader_killed_in_the_middle_of_its_work_is_replaced(pair, servers, number):
    leader, follower = pair.leader, pair.follower
    point = leader.proxy.kill_at(number, "after", leader)
    servers.create("chat", pinned(replicas=2))
    assert point.done.wait(20)
    servers.wait_settled("chat", timeout=30)
    assert pair.holder() == follower.identity
    assert succeeded_twice(leader, follower) == []


@pytest.mark.parametrize("number", [2, 5])
def test_a_frozen_leader_that_thaws_does_not_write_against_the_new_one(pair, servers, number):
    leader, follower = pair.leader, pair.follower
    point = leader.proxy.kill_at(number, "after", Freezer(leader))
    servers.create("chat", pinned(replicas=2))
    assert point.done.wait(20)
    servers.wait_settled("chat", timeout=30)
    seen = len(leader.proxy.seen)
    leader.thaw()
    wait_until(
        lambda: any(s.request.resource == "leases" for s in leader.proxy.seen[seen:]),
        timeout=10,
        what="the old leader looks at the Lease again",
    )
    servers.patch("chat", {"model": {"revision": OTHER_COMMIT}})
    servers.wait_settled("chat")
    assert [str(w) for w in leader.proxy.writes(seen)] == []
    assert pair.holder() == follower.identity
    assert leader.probe("/readyz") == httpx.codes.OK


def test_a_write_that_was_on_its_way_for_too_long_is_refused(pair, servers):
    """Sent by the old leader, it arrives when the new one has already changed the object."""
    servers.create("chat")
    servers.wait_settled("chat")
    leader, follower = pair.leader, pair.follower
    postponed = leader.proxy.postpone(lambda r: r.verb == "patch" and r.resource == "deployments")
    servers.patch("chat", {"replicas": 2})
    assert postponed.arrived.wait(20)
    leader.freeze()
    pair.wait_for_leader(other_than=leader.identity)
    servers.wait_settled("chat")
    servers.patch("chat", {"replicas": 3})
    servers.wait_settled("chat")
    leader.proxy.release(postponed)
    assert postponed.answered.wait(10)
    leader.kill()
    assert postponed.status == httpx.codes.CONFLICT
    servers.wait_settled("chat")
    assert len(servers.pods("chat")) == 3
    assert pair.holder() == follower.identity


def test_two_replicas_write_no_more_than_one(pair, servers):
    """The same life, with and without a follower: the same writes.

    Reports follow the pods, which are two: how many of their steps one report covers is chance.
    """
    leader, follower = pair.leader, pair.follower
    servers.create("together", pinned(replicas=2))
    servers.wait_settled("together")
    together = writes_about("together", leader)
    assert follower.proxy.writes() == []
    follower.stop()
    servers.create("alone", pinned(replicas=2))
    servers.wait_settled("alone")
    alone = writes_about("alone", leader)
    assert without_reports(together) == without_reports(alone)
    for written in (together, alone):
        assert written[REPORT] <= MOST_REPORTS
        assert written[LABEL] <= MOST_LABELS
    assert difference(servers.snapshot("alone"), servers.snapshot("together")) == []


def test_a_rolling_update_of_the_operator_is_not_noticed(pair, servers):
    """One replica after the other is replaced while a server changes its revision."""
    servers.create("chat", pinned(replicas=2))
    servers.wait_settled("chat")
    servers.patch("chat", {"model": {"revision": OTHER_COMMIT}})
    for replica in list(pair.replicas.values()):
        replica.stop()
        replica.start()
    server = servers.wait_settled("chat", timeout=60)
    assert server["spec"]["model"]["revision"] == OTHER_COMMIT
    assert len(pair.kube.items(servers.collection)) == 1


def writes_about(name, *replicas):
    written = [w for r in replicas for w in r.proxy.writes() if w.succeeded]
    return Counter(
        (w.request.verb, w.request.target)
        for w in written
        if w.request.name == name or w.request.name.startswith(f"{name}-")
    )


def without_reports(written):
    return {write: count for write, count in written.items() if write not in {REPORT, LABEL}}


def succeeded_twice(*replicas):
    """Objects that were created more than once: a second birth is a fight or a forgetting."""
    created = Counter(
        (w.request.resource, w.request.name)
        for replica in replicas
        for w in replica.proxy.writes()
        if w.status == httpx.codes.CREATED and w.request.resource != "events"
    )
    return [f"{resource}/{name}" for (resource, name), count in created.items() if count > 1]
