"""Leadership against a Lease that behaves as the API server's, in simulated time."""

import asyncio
import copy
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import pytest

from modelserver_operator.cluster.client import ObjectName
from modelserver_operator.cluster.lease import Leadership, Terms
from modelserver_operator.errors import Conflict, NotFound, NotLeading, Unavailable

pytestmark = pytest.mark.looptime

TERMS = Terms(duration=15, renew=10, retry=2)
WHERE = ObjectName("modelserver-system", "modelserver-operator")


class LeaseApi:
    """One Lease with optimistic concurrency; `down` holds names of replicas that are cut off."""

    def __init__(self):
        self.lease = None
        self.version = 0
        self.down = set()
        self.requests = 0

    def of(self, name):
        return Connection(self, name)


class Connection:
    def __init__(self, api, name):
        self.api, self.name = api, name

    def _reach(self):
        self.api.requests += 1
        if self.name in self.api.down:
            raise Unavailable("cut off")

    async def get(self, _kind, _where):
        self._reach()
        if self.api.lease is None:
            raise NotFound("no lease", status=404)
        return copy.deepcopy(self.api.lease)

    async def create(self, _kind, _namespace, lease):
        self._reach()
        if self.api.lease is not None:
            raise Conflict("exists", status=409)
        return self._store(lease)

    async def replace(self, _kind, lease, *, version):
        self._reach()
        if version != self.api.lease["metadata"]["resourceVersion"]:
            raise Conflict("changed", status=409)
        return self._store(lease)

    def _store(self, lease):
        self.api.version += 1
        metadata = lease["metadata"] | {"resourceVersion": str(self.api.version)}
        self.api.lease = copy.deepcopy(lease | {"metadata": metadata})
        return copy.deepcopy(self.api.lease)


def clock():
    return datetime(2026, 1, 1, tzinfo=UTC)  # stands still: nothing may depend on it


def now():
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def candidate(api, name):
    leadership = Leadership(api.of(name), WHERE, identity=name, terms=TERMS, wall_clock=clock)
    tasks = [
        asyncio.create_task(leadership.run()),
        asyncio.create_task(leadership.watch_deadline()),
    ]
    try:
        yield leadership
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


async def test_the_first_one_leads_at_once():
    async with candidate(LeaseApi(), "a") as a:
        await asyncio.wait_for(a.gained.wait(), 1)
        a.check()


async def test_the_second_one_does_not_lead_while_the_first_renews():
    api = LeaseApi()
    async with candidate(api, "a") as a, candidate(api, "b") as b:
        await asyncio.sleep(300)
        assert [a.is_held(), b.is_held()] == [True, False]


async def test_two_that_start_together_never_lead_together():
    api = LeaseApi()
    async with candidate(api, "a") as a, candidate(api, "b") as b:
        for _ in range(100):
            await asyncio.sleep(0.3)
            assert not (a.is_held() and b.is_held())
        assert a.is_held() or b.is_held()


async def test_a_leader_that_is_cut_off_stops_before_anybody_else_begins():
    api = LeaseApi()
    async with candidate(api, "a") as a, candidate(api, "b") as b:
        await asyncio.sleep(10)
        api.down.add("a")
        cut_at = now()
        await a.lost.wait()
        stopped_at = now()
        await b.gained.wait()
        assert stopped_at - cut_at <= TERMS.renew
        assert now() - stopped_at >= TERMS.duration - TERMS.renew - TERMS.retry - 0.5
        assert now() - cut_at <= TERMS.duration + 2 * TERMS.retry


async def test_what_is_not_leading_must_not_write():
    api = LeaseApi()
    async with candidate(api, "a") as a:
        await asyncio.sleep(5)
        api.down.add("a")
        await asyncio.sleep(TERMS.renew)
        with pytest.raises(NotLeading):
            a.check()


async def test_a_released_lease_is_taken_at_the_next_look():
    api = LeaseApi()
    async with candidate(api, "b") as b:
        async with candidate(api, "a") as a:
            api.down.add("b")
            b._held_until = 0
            await asyncio.sleep(30)
            assert a.is_held()
            api.down.clear()
            await asyncio.sleep(5)
        await a.release()
        released_at = now()
        await b.gained.wait()
        assert now() - released_at <= TERMS.retry * 1.2
        assert not a.is_held()


async def test_a_restarted_replica_of_the_same_name_continues_at_once():
    api = LeaseApi()
    async with candidate(api, "a") as a:
        await asyncio.sleep(5)
        assert a.is_held()
    async with candidate(api, "a") as again:
        await asyncio.wait_for(again.gained.wait(), 1)


async def test_a_leader_whose_lease_was_taken_by_hand_stops():
    api = LeaseApi()
    async with candidate(api, "a") as a:
        await asyncio.sleep(5)
        lease = copy.deepcopy(api.lease)
        lease["spec"]["holderIdentity"] = "somebody"
        await api.of("x").replace(None, lease, version=lease["metadata"]["resourceVersion"])
        await asyncio.wait_for(a.lost.wait(), 2 * TERMS.retry * 1.2)


async def test_renewing_takes_one_request():
    api = LeaseApi()
    async with candidate(api, "a"):
        await asyncio.sleep(1)
        before = api.requests
        await asyncio.sleep(100)
        assert api.requests - before <= 100 / (TERMS.retry * 0.9) + 1


async def test_transitions_are_counted_and_renewals_are_not():
    api = LeaseApi()
    async with candidate(api, "a") as a:
        await asyncio.sleep(60)
        await a.release()
    async with candidate(api, "b"):
        await asyncio.sleep(5)
    assert api.lease["spec"]["holderIdentity"] == "b"
    assert api.lease["spec"]["leaseTransitions"] == 3  # taken, released, taken
