"""Limits: never more than allowed in any window, alone, with Redis, and when Redis goes away."""

import asyncio
import math
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelserver_runtime.access.limits import Algorithm, Charge, Limiter, Slot, Unit
from modelserver_runtime.access.limits.charge import WINDOW_SECONDS, Admission
from modelserver_runtime.access.limits.headers import duration
from modelserver_runtime.access.limits.memory import MemoryLimits
from modelserver_runtime.access.limits.meters import SlidingWindow, TokenBucket
from modelserver_runtime.access.limits.shared import SharedLimits
from modelserver_runtime.settings import Settings
from modelserver_runtime.storage import RedisStore
from modelserver_runtime.telemetry import Telemetry
from support import limit_process
from support.redis_server import RedisServer

pytestmark = pytest.mark.slow

BEGIN = 1_000_000.0
# A test keeps its server for all its examples; each has a subject of its own.
SHARES_ITS_SERVER = settings(
    max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


class Clock:
    def __init__(self) -> None:
        self.now = BEGIN

    def __call__(self) -> float:
        return self.now


def charge(subject: str = "key:a", **changes: Any) -> Charge:
    values = {"unit": Unit.TOKENS, "limit": 10, "cost": 1, "burst": 10}
    return Charge(subject=subject, **{**values, **changes})


def slot(holder: str, *, limit: int = 2, seconds: float = 30) -> Slot:
    return Slot(subject="key:a", limit=limit, holder=holder, longest_seconds=seconds)


def most_in_a_window(taken: list[tuple[float, int]], seconds: float) -> int:
    """Over every window that begins with something taken, which are those that hold most."""
    return max(
        (sum(cost for at, cost in taken if begin <= at < begin + seconds) for begin, _ in taken),
        default=0,
    )


def require_within(taken: list[tuple[float, int]], one: Charge) -> None:
    if one.algorithm is Algorithm.SLIDING_WINDOW:
        assert most_in_a_window(taken, WINDOW_SECONDS) <= one.limit
        return
    for seconds in (0.001, 1, 10, 60, 200):
        inflow = one.limit * seconds / WINDOW_SECONDS
        assert most_in_a_window(taken, seconds) <= math.floor(one.burst + inflow + 1e-3)


algorithms = st.sampled_from(Algorithm)
limits = st.integers(1, 30)
# Pauses of many sizes, also such as end exactly where a step of the clock does.
pauses = st.one_of(st.just(0.0), st.floats(0, 5), st.sampled_from([1.0, 30.0, 59.999, 60.0, 61.0]))
deltas = st.integers(-10, 3)
requests = st.lists(st.tuples(pauses, st.integers(1, 10)), max_size=60)


@given(algorithms, limits, requests)
def test_never_more_than_the_limit_is_admitted_in_any_window(algorithm, limit, asked):
    memory, now, taken = MemoryLimits(), BEGIN, []
    for pause, cost in asked:
        now += pause
        one = charge(algorithm=algorithm, limit=limit, burst=limit, cost=min(cost, limit))
        decision = memory.admit([one], None, now)
        assert all(0 <= verdict.remaining <= limit for verdict in decision.verdicts)
        if decision.refusal is None:
            taken.append((now, one.cost))
    require_within(taken, charge(algorithm=algorithm, limit=limit, burst=limit))


@given(algorithms, limits, requests)
def test_who_waits_as_long_as_it_is_told_is_admitted(algorithm, limit, asked):
    memory, now = MemoryLimits(), BEGIN
    for pause, cost in asked:
        now += pause
        one = charge(algorithm=algorithm, limit=limit, burst=limit, cost=min(cost, limit))
        refusal = memory.admit([one], None, now).refusal
        if refusal is not None:
            assert 0 < refusal.wait_seconds <= WINDOW_SECONDS + 1
            now += refusal.wait_seconds + 1e-5
            assert memory.admit([one], None, now).refusal is None


@given(algorithms, limits, requests)
def test_what_is_refused_takes_nothing(algorithm, limit, asked):
    """So a limiter that is also asked for too much decides about the rest as if it were not."""
    plain, bothered, now = MemoryLimits(), MemoryLimits(), BEGIN
    closed = charge("address:b", limit=1, burst=1, algorithm=algorithm)
    bothered.admit([closed], None, now)
    for pause, cost in asked:
        now += min(pause, 0.01)
        one = charge(algorithm=algorithm, limit=limit, burst=limit, cost=min(cost, limit))
        assert bothered.admit([one, closed], None, now).refusal is not None
        same = plain.admit([one], None, now), bothered.admit([one], None, now)
        assert same[0] == same[1]


@given(
    st.sampled_from([SlidingWindow, TokenBucket]),
    limits,
    st.lists(st.tuples(pauses, st.integers(1, 10), st.integers(-12, 40)), max_size=40),
)
def test_a_meter_is_never_negative_and_pays_what_was_used_beyond_the_estimate(kind, limit, steps):
    meter, now = kind(), BEGIN
    for pause, cost, delta in steps:
        now += pause
        one = charge(limit=limit, burst=limit, cost=min(cost, limit))
        before = meter.look(one, now)
        if before.wait_seconds:
            continue
        meter.take(one, now)
        meter.correct(one, max(delta, -one.cost), now, now)
        after = meter.look(one, now)
        assert 0 <= after.remaining <= limit
        used = one.cost + max(delta, -one.cost)
        assert after.remaining == max(0, before.remaining - used)
    now += 200 * 60  # the largest debt that the steps can make
    assert meter.look(charge(limit=limit, burst=limit), now).remaining == limit
    assert meter.is_idle(now)


def test_a_bucket_gives_its_burst_and_then_flows_evenly():
    memory, now = MemoryLimits(), BEGIN
    one = charge(algorithm=Algorithm.TOKEN_BUCKET, limit=60, burst=3)
    admitted = [memory.admit([one], None, now).refusal is None for _ in range(4)]
    assert admitted == [True, True, True, False]
    admitted = []
    for _ in range(10):
        now += 0.5
        admitted.append(memory.admit([one], None, now).refusal is None)
    assert admitted == [False, True] * 5


def test_what_was_reserved_and_not_used_is_given_back():
    memory = MemoryLimits()
    all_of_it = charge(cost=10)
    decision = memory.admit([all_of_it], None, BEGIN)
    assert memory.admit([charge()], None, BEGIN).refusal
    memory.correct(all_of_it, -8, stamp=decision.stamp, now=BEGIN + 1)
    assert memory.admit([charge(cost=0)], None, BEGIN + 1).tightest(Unit.TOKENS).remaining == 8


def test_places_are_given_back_or_become_free_by_themselves():
    memory = MemoryLimits()
    assert memory.admit([], slot("a"), BEGIN).refusal is None
    assert memory.admit([], slot("b"), BEGIN).refusal is None
    refusal = memory.admit([charge()], slot("c"), BEGIN).refusal
    assert (refusal.unit, refusal.limit) == (Unit.CONCURRENT, 2)
    memory.free(slot("a"))
    assert memory.admit([], slot("c"), BEGIN).refusal is None
    assert memory.admit([], slot("d"), BEGIN).refusal
    assert memory.admit([], slot("d"), BEGIN + 31).refusal is None


def test_many_addresses_take_bounded_memory():
    memory = MemoryLimits(most_meters=100)
    for number in range(1000):
        memory.admit([charge(f"address:{number}")], None, BEGIN)
    assert len(memory._meters) <= 101


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.12, "120ms"), (1, "1s"), (8.64, "8.64s"), (60, "1m0s"), (360.5, "6m0.5s")],
)
def test_times_are_written_as_openai_writes_them(seconds, text):
    assert duration(seconds) == text


# -- through Redis -------------------------------------------------------------------------------


@asynccontextmanager
async def shared(server: RedisServer, clock=time.monotonic) -> AsyncIterator[SharedLimits]:
    store = store_of(server, clock)
    try:
        yield SharedLimits(store)
    finally:
        await store.close()


def store_of(server: RedisServer, clock=time.monotonic) -> RedisStore:
    return RedisStore(Settings(redis_url=server.url, redis_timeout_seconds=5), Telemetry(), clock)


@SHARES_ITS_SERVER
@given(algorithms, limits, st.lists(st.tuples(pauses, st.integers(1, 10), deltas), max_size=40))
def test_redis_decides_as_memory_does(redis_server, algorithm, limit, asked):
    """The two programs are one, so what holds for memory holds for Redis."""
    subject = f"key:{uuid.uuid4()}"

    async def run() -> None:
        memory, now = MemoryLimits(), BEGIN
        async with shared(redis_server) as redis:
            for pause, cost, delta in asked:
                now += round(pause, 3)
                one = charge(
                    subject, algorithm=algorithm, limit=limit, burst=limit, cost=min(cost, limit)
                )
                own = memory.admit([one], None, now)
                theirs = await redis.admit([one], None, at=now)
                assert len(theirs.verdicts) == 1
                assert theirs.verdicts[0].remaining == own.verdicts[0].remaining
                assert theirs.verdicts[0].wait_seconds == pytest.approx(
                    own.verdicts[0].wait_seconds, abs=1e-4
                )
                if own.refusal is None:
                    used = max(delta, -one.cost)
                    memory.correct(one, used, stamp=now, now=now)
                    admission = Admission(charges=[one], own=own, shared=theirs)
                    await redis.finish(admission, [(one, used)], at=now)

    asyncio.run(run())


@pytest.mark.parametrize("algorithm", Algorithm)
async def test_two_clients_of_one_redis_share_a_limit(redis_server, algorithm):
    async with shared(redis_server) as one, shared(redis_server) as other:
        asked = charge(algorithm=algorithm, limit=50, burst=50)
        answers = await asyncio.gather(
            *(limits.admit([asked], None) for limits in (one, other) * 60)
        )
        assert sum(answer.refusal is None for answer in answers) == 50
        remaining = [answer.verdicts[0].remaining for answer in answers if not answer.refusal]
        assert sorted(remaining) == list(range(50))


def test_two_processes_on_one_redis_share_a_limit(redis_server):
    processes = [
        limit_process.start(redis_server.url, Algorithm.SLIDING_WINDOW, limit=40, attempts=60)
        for _ in range(2)
    ]
    admitted = [int(process.communicate(timeout=250)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum(admitted) == 40


async def test_places_are_shared_and_of_all_limits_or_none(redis_server):
    async with shared(redis_server) as one, shared(redis_server) as other:
        first = await one.admit([charge()], slot("a"), at=BEGIN)
        assert (await other.admit([charge()], slot("b"), at=BEGIN)).refusal is None
        refused = await one.admit([charge()], slot("c"), at=BEGIN)
        assert refused.refusal.unit is Unit.CONCURRENT
        assert refused.tightest(Unit.TOKENS).remaining == 8, "nothing was taken"
        admission = Admission(charges=[charge()], slot=slot("a"), own=first, shared=first)
        await other.finish(admission, [(charge(), -1)], at=BEGIN)
        again = await one.admit([charge()], slot("c"), at=BEGIN)
        assert again.refusal is None
        assert again.tightest(Unit.TOKENS).remaining == 8
        assert (await one.admit([], slot("d"), at=BEGIN + 31)).refusal is None, "holders have gone"


async def test_nothing_is_left_in_redis_when_limits_are_full_again(redis_server):
    async with shared(redis_server) as limits:
        for algorithm in Algorithm:
            await limits.admit([charge(algorithm=algorithm)], slot("a"))
        names = await limits._store._redis.keys("*")
        assert len(names) == 3
        assert all([0 < await limits._store._redis.ttl(name) <= 66 for name in names])


async def test_without_redis_a_replica_goes_on_with_what_it_has_counted(redis_server):
    clock = Clock()
    store = store_of(redis_server, clock)
    limiter, one = Limiter(clock, SharedLimits(store)), charge()
    for _ in range(6):
        admission = await limiter.admit([one], slot("a", limit=20))
        assert admission.shared is not None
        await limiter.finish(admission, 1)
    redis_server.kill()
    admitted = [await limiter.admit([one]) for _ in range(8)]
    assert [admission.decision.refusal is None for admission in admitted] == [True] * 4 + [
        False
    ] * 4
    assert all(admission.shared is None for admission in admitted)
    redis_server.start()
    clock.now += 40
    await store.ping()
    assert store.is_reachable
    assert (await limiter.admit([one])).decision.refusal, "the window of this replica holds still"
    await store.close()


async def test_while_redis_is_away_each_of_two_replicas_allows_its_half(redis_server):
    clock = Clock()
    store = store_of(redis_server, clock)
    limiter, tokens = Limiter(clock, SharedLimits(store), lambda: 2), charge("key:b", cost=4)
    together = [await limiter.admit([charge()]) for _ in range(3)]
    assert [one.decision.tightest(Unit.TOKENS).limit for one in together] == [10] * 3
    redis_server.kill()
    apart = [await limiter.admit([charge()]) for _ in range(4)]
    assert [one.decision.refusal is None for one in apart] == [True, True, False, False]
    assert apart[-1].decision.tightest(Unit.TOKENS).limit == 5
    await limiter.finish(await limiter.admit([tokens]), 2)
    remaining = (await limiter.admit([charge("key:b")])).decision.tightest(Unit.TOKENS).remaining
    assert remaining == 2, "of five, after two and one"
    redis_server.start()
    clock.now += 40
    await store.ping()
    again = await limiter.admit([charge("key:c", cost=8)])
    assert (again.decision.refusal, again.decision.tightest(Unit.TOKENS).limit) == (None, 10)
    await store.close()


async def test_what_redis_refuses_is_given_back_here(redis_server):
    store = store_of(redis_server)
    other, here = SharedLimits(store), Limiter(time.monotonic, SharedLimits(store))
    await other.admit([charge(cost=10)], slot("x", limit=1))
    refused = await here.admit([charge(cost=5)], slot("y", limit=1))
    assert refused.decision.refusal
    assert refused.own.refusal is None
    alone = here._own.admit([charge(cost=10)], slot("z", limit=1), time.monotonic())
    assert alone.refusal is None
    await store.close()
