"""Redis as it is, killed, frozen and back: answers, or None within the time-out, never an error."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_runtime.errors import InvalidConfiguration
from modelserver_runtime.settings import Settings
from modelserver_runtime.storage import RedisStore, Script, open_store
from modelserver_runtime.storage.pause import Pause
from modelserver_runtime.telemetry import Telemetry
from support.redis_server import RedisServer

ECHO = Script(name="echo", text="return {KEYS[1], ARGV[1]}")


class Clock:
    """Moves only when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def store_of(
    server: RedisServer, telemetry: Telemetry | None = None, clock=None, seconds: float = 5
) -> AsyncIterator[RedisStore]:
    settings = Settings(redis_url=server.url, redis_timeout_seconds=seconds, redis_prefix="t:")
    store = open_store(settings, telemetry or Telemetry(), clock or time.monotonic)
    assert store is not None
    try:
        yield store
    finally:
        await store.close()


def sample(telemetry: Telemetry, name: str) -> float:
    value = telemetry.registry.get_sample_value(name)
    assert value is not None
    return value


async def test_values_are_kept_counted_and_forgotten(redis_server):
    async with store_of(redis_server) as store:
        assert await store.put("a", b"1") is True
        assert await store.get_many(["a", "b"]) == [b"1", None]
        assert await store.put_if_absent("a", b"2") is False
        assert await store.put_if_absent("b", b"2") is True
        assert await store.get_many([]) == []
        assert await store.delete("a", "b", "c") == 2
        assert [await store.increment("n"), await store.increment("n")] == [1, 2]
        assert await store.fields("none") == {}


async def test_a_value_with_a_time_to_live_goes_by_itself(redis_server):
    async with store_of(redis_server) as store:
        ttl = Script(name="ttl", text="return redis.call('PTTL', KEYS[1])")
        await store.put("a", b"1", ttl_seconds=60)
        await store.put_if_absent("b", b"1", ttl_seconds=60)
        assert 50_000 < await store.run(ttl, ["a"], []) <= 60_000
        assert 50_000 < await store.run(ttl, ["b"], []) <= 60_000


async def test_scripts_see_keys_under_the_prefix_and_survive_a_new_redis(redis_server):
    clock = Clock()
    async with store_of(redis_server, clock=clock) as store:
        assert await store.run(ECHO, ["k"], ["x"]) == [b"t:k", b"x"]
        redis_server.kill()
        redis_server.start()
        clock.now += 60
        for _ in range(2):  # a connection of before may fail once
            answer = await store.run(ECHO, ["k"], ["x"])
            clock.now += 60
        assert answer == [b"t:k", b"x"]


async def test_a_killed_redis_is_none_and_back_after_a_pause(redis_server):
    clock, telemetry = Clock(), Telemetry()
    async with store_of(redis_server, telemetry, clock) as store:
        await store.put("a", b"1")
        redis_server.kill()
        assert await store.get_many(["a"]) is None
        assert not store.is_reachable
        assert sample(telemetry, "modelserver_redis_up") == 0
        failures = sample(telemetry, "modelserver_redis_errors_total")
        assert failures == 1
        redis_server.start()
        assert await store.get_many(["a"]) is None, "it is not asked during the pause"
        assert sample(telemetry, "modelserver_redis_errors_total") == failures
        clock.now += 1.5
        assert await store.get_many(["a"]) == [b"1"]
        assert store.is_reachable
        assert sample(telemetry, "modelserver_redis_up") == 1


async def test_a_frozen_redis_costs_one_time_out_and_then_nothing(redis_server):
    clock = Clock()
    async with store_of(redis_server, clock=clock, seconds=0.1) as store:
        await store.ping()
        redis_server.freeze()
        try:
            clock.now += 1
            answers = await asyncio.gather(*(store.put("a", b"1") for _ in range(40)))
            assert answers == [None] * 40
            assert store.seconds_until_asked == 1, "forty failures are one"
        finally:
            redis_server.thaw()


async def test_a_cancelled_request_leaves_the_connection_usable(redis_server):
    async with store_of(redis_server) as store:
        await store.put("a", b"right")
        redis_server.freeze()
        try:
            reading = asyncio.ensure_future(store.get_many(["b"]))
            done, _ = await asyncio.wait({reading}, timeout=0.05)
            assert not done
            reading.cancel()
            await asyncio.wait({reading})
        finally:
            redis_server.thaw()
        assert await store.get_many(["a"]) == [b"right"], "not the answer of another question"


def test_without_a_url_there_is_no_store():
    assert open_store(Settings(), Telemetry(), time.monotonic) is None


def test_a_wrong_url_is_refused_without_showing_its_password():
    with pytest.raises(InvalidConfiguration, match="MODELSERVER_REDIS_URL") as caught:
        open_store(Settings(redis_url="http://:secret@x"), Telemetry(), time.monotonic)
    assert "secret" not in caught.value.message


def test_the_pause_doubles_to_half_a_minute_and_one_asks_at_its_end():
    pause, now, pauses = Pause(), 0.0, []
    for _ in range(7):
        assert pause.may_ask(now)
        pause.failed(began=now, now=now)
        pauses.append(pause.seconds_left(now))
        assert not pause.may_ask(now)
        now += pauses[-1]
        assert pause.may_ask(now)
        assert not pause.may_ask(now), "one asks, the others wait for what comes of it"
        pause.abandoned()
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    pause.succeeded()
    assert pause.may_ask(now)


@given(st.lists(st.tuples(st.sampled_from(["ask", "ok", "fail"]), st.floats(0, 40)), max_size=20))
def test_after_the_longest_pause_somebody_always_may_ask(steps):
    pause, now = Pause(), 0.0
    for step, seconds in steps:
        now += seconds
        if pause.may_ask(now):
            {"ask": pause.abandoned, "ok": pause.succeeded}.get(
                step, lambda at=now: pause.failed(began=at, now=at)
            )()
    assert pause.may_ask(now + 31)
