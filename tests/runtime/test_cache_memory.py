"""The first level: never more than its limits, never an old answer, the least used out first."""

from collections import Counter, OrderedDict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from modelserver_runtime.cache.memory import Eviction, Held, MemoryCache, MemoryLimits

LIMITS = MemoryLimits(max_entries=4, max_bytes=20, ttl_seconds=10)
keys = st.sampled_from([bytes([index]) for index in range(7)])
models = st.sampled_from(["one", "other"])


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def a_cache(limits: MemoryLimits = LIMITS) -> tuple[MemoryCache, Clock, Counter]:
    clock, evictions = Clock(), Counter()
    cache = MemoryCache(
        limits,
        clock=clock,
        on_eviction=lambda model, reason: evictions.update([(model, reason)]),
    )
    return cache, clock, evictions


def held(value: object, size: int = 1, *, model: str = "one", stored_at: float = 0.0) -> Held:
    return Held(namespace=model, value=value, size_bytes=size, stored_at=stored_at)


class MemoryMachine(RuleBasedStateMachine):
    """Beside the cache runs a list that is so simple that it must be right."""

    def __init__(self) -> None:
        super().__init__()
        self.cache, self.clock, self.evictions = a_cache()
        self.model: OrderedDict[bytes, Held] = OrderedDict()

    def is_live(self, entry: Held) -> bool:
        return self.clock.now - entry.stored_at < LIMITS.ttl_seconds

    @rule(key=keys, size=st.integers(0, 25), model=models, age=st.floats(0, 12))
    def put(self, key: bytes, size: int, model: str, age: float) -> None:
        entry = held(object(), size, model=model, stored_at=self.clock.now - age)
        kept = self.cache.put(key, entry)
        assert kept == (size <= LIMITS.max_bytes and self.is_live(entry))
        if not kept:
            return
        self.model.pop(key, None)
        self.model[key] = entry
        while (
            len(self.model) > LIMITS.max_entries
            or sum(e.size_bytes for e in self.model.values()) > LIMITS.max_bytes
        ):
            self.model.popitem(last=False)

    @rule(key=keys)
    def get(self, key: bytes) -> None:
        expected = self.model.get(key)
        if expected is not None and not self.is_live(expected):
            del self.model[key]
            expected = None
        assert self.cache.get(key) is expected
        if expected is not None:
            self.model.move_to_end(key)

    @rule(seconds=st.floats(0, 6))
    def time_goes_by(self, seconds: float) -> None:
        self.clock.now += seconds
        self.sweep()

    @rule()
    def sweep(self) -> None:
        self.cache.sweep()
        for key in [key for key, entry in self.model.items() if not self.is_live(entry)]:
            del self.model[key]

    @rule(model=models)
    def invalidate(self, model: str) -> None:
        expected = [key for key, entry in self.model.items() if entry.namespace == model]
        assert self.cache.invalidate(model) == len(expected)
        for key in expected:
            del self.model[key]

    @invariant()
    def limits_hold_and_counts_are_right(self) -> None:
        assert len(self.cache) == len(self.model) <= LIMITS.max_entries
        assert self.cache.size_bytes == sum(e.size_bytes for e in self.model.values())
        assert self.cache.size_bytes <= LIMITS.max_bytes
        for name in ("one", "other"):
            own = [entry for entry in self.model.values() if entry.namespace == name]
            occupancy = self.cache.occupancy(name)
            assert occupancy.entries == len(own)
            assert occupancy.size_bytes == sum(entry.size_bytes for entry in own)


TestMemory = MemoryMachine.TestCase
TestMemory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_the_reason_of_an_eviction_is_told():
    cache, clock, evictions = a_cache()
    for index in range(5):
        cache.put(bytes([index]), held(index))
    assert evictions == {("one", Eviction.ENTRIES): 1}
    cache.put(b"large", held("large", 18))
    assert evictions["one", Eviction.BYTES] == 1
    clock.now = 10
    assert cache.get(b"large") is None
    assert evictions["one", Eviction.EXPIRED] == 1
    cache.put(b"new", held("new", model="other", stored_at=10))
    cache.invalidate("other")
    assert evictions["other", Eviction.INVALIDATED] == 1


def test_what_has_expired_leaves_without_being_asked_for():
    cache, clock, _ = a_cache()
    cache.put(b"old", held("old"))
    clock.now = 100
    cache.put(b"new", held("new", stored_at=100))
    assert len(cache) == 1


def test_nothing_is_kept_without_entries():
    cache, _, _ = a_cache(MemoryLimits(max_entries=0, max_bytes=100, ttl_seconds=1))
    assert not cache.put(b"key", held("value"))
    assert cache.get(b"key") is None
