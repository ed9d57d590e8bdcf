"""Several models: each loaded once, the used ones kept, room made by age, failures remembered."""

import asyncio
import gc
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelserver_runtime.errors import Conflict, ModelNotFound, ModelUnavailable, NotReady
from modelserver_runtime.models.leases import current_leases, leasing
from modelserver_runtime.models.served import ModelState
from support.stored_models import StoredModels, failure, manager_of, stored_model

SIZES = {"main": 10, "a": 10, "b": 10, "c": 10, "d": 10}
SOON = 1e6


def in_memory(manager):
    return {model.name for model in manager if model.is_in_memory}


async def use(manager, name, *, deadline=SOON):
    lease = await manager.lease(manager.find(name), deadline=deadline)
    lease.release()


@pytest.fixture
async def shop():
    stored = StoredModels(sizes=SIZES)
    manager = manager_of(stored)
    manager.start_primary(stored_model(10))
    yield manager, stored
    manager.stop(5)


async def test_a_model_is_found_by_each_of_its_names(shop):
    manager, _ = shop
    assert manager.find("also-a") is manager.find("a")
    with pytest.raises(ModelNotFound, match="'x' does not exist; this server has main, also-main"):
        manager.find("x")


async def test_many_who_ask_at_once_cost_one_load(shop):
    manager, stored = shop
    stored.seconds = 0.05
    await asyncio.gather(*(use(manager, name) for name in ["a", "also-a"] * 50))
    assert stored.loads == ["a"]
    await use(manager, "a")
    assert stored.loads == ["a"]


async def test_different_models_are_loaded_one_after_the_other(shop):
    manager, stored = shop
    stored.seconds = 0.02
    await asyncio.gather(use(manager, "a"), use(manager, "b"))
    assert sorted(stored.loads) == ["a", "b"]
    assert stored.most_at_once == 1


async def test_whoever_was_used_longest_ago_gives_way_and_the_primary_never_does(shop):
    manager, _ = shop
    await use(manager, "a")
    await use(manager, "b")
    await use(manager, "a")
    await use(manager, "c")
    assert in_memory(manager) == {"main", "a", "c"}
    assert manager.find("b").state is ModelState.UNLOADED
    assert manager.find("b").telemetry.evictions._value.get() == 1


async def test_a_pinned_model_stays_and_the_rest_has_no_room():
    stored = StoredModels(sizes=SIZES)
    manager = manager_of(stored, pinned=frozenset({"a", "b"}))
    manager.start_primary(stored_model(10))
    await use(manager, "a")
    await use(manager, "b")
    with pytest.raises(ModelUnavailable, match="c could not be loaded: there is no room for it"):
        await use(manager, "c")
    with pytest.raises(Conflict, match="a is pinned and stays"):
        await manager.unload(manager.find("a"))
    assert in_memory(manager) == {"main", "a", "b"}
    manager.stop(5)


async def test_memory_is_bounded_by_the_budget_and_by_what_is_free():
    stored = StoredModels(sizes={"main": 10, "a": 30, "b": 60, "c": 100})
    manager = manager_of(stored, budget_bytes=100)
    manager.start_primary(stored_model(10))
    await use(manager, "a")
    await use(manager, "b")
    assert in_memory(manager) == {"main", "a", "b"}
    with pytest.raises(ModelUnavailable, match="it needs about 100 bytes, and at most 90 can be"):
        await use(manager, "c")
    assert in_memory(manager) == {"main", "a", "b"}
    stored.sizes = {**stored.sizes, "c": 90}
    await use(manager, "c")
    assert in_memory(manager) == {"main", "c"}
    manager.stop(5)


async def test_without_a_budget_free_memory_decides():
    stored = StoredModels(sizes=SIZES, free=15)
    manager = manager_of(stored)
    manager.start_primary(stored_model(10))
    await use(manager, "a")
    stored.free = 5
    await use(manager, "b")
    assert in_memory(manager) == {"main", "b"}
    manager.stop(5)


async def test_a_model_in_use_is_drained_before_it_gives_way(shop):
    manager, _ = shop
    lease = await manager.lease(manager.find("a"), deadline=SOON)
    other = await manager.lease(manager.find("b"), deadline=SOON)
    loading = asyncio.ensure_future(use(manager, "c"))
    async with asyncio.timeout(5):
        while manager.find("a").state is not ModelState.DRAINING:
            await asyncio.wait({loading}, timeout=0.001)
    assert manager.find("a").service.worker.is_alive
    late = asyncio.ensure_future(manager.lease(manager.find("a"), deadline=SOON))
    await asyncio.wait({late}, timeout=0.01)
    assert not late.done()
    lease.release()
    await loading
    other.release()
    (await late).release()  # loaded again, for whoever came while it left
    assert "a" in in_memory(manager)


async def test_a_model_whose_requests_do_not_end_stays():
    stored = StoredModels(sizes=SIZES)
    manager = manager_of(stored, max_loaded=2, drain_seconds=0.02)
    manager.start_primary(stored_model(10))
    lease = await manager.lease(manager.find("a"), deadline=SOON)
    with pytest.raises(ModelUnavailable, match="a must give way and still answers after 0 s"):
        await use(manager, "b")
    assert manager.find("a").state is ModelState.READY
    lease.release()
    await use(manager, "b")
    assert in_memory(manager) == {"main", "b"}
    manager.stop(5)


async def test_a_failed_load_is_remembered_for_a_while_with_its_reason(shop, monkeypatch):
    manager, stored = shop
    stored.failures["a"] = failure("The weights cannot be read")
    for _ in range(5):
        with pytest.raises(ModelUnavailable, match="a could not be loaded: The weights") as refused:
            await use(manager, "a")
        assert 5 <= refused.value.retry_after_seconds <= 30
    assert stored.loads == ["a"]
    assert manager.find("a").state is ModelState.FAILED
    now = manager._clock()
    monkeypatch.setattr(manager, "_clock", lambda: now + 31)
    del stored.failures["a"]
    await use(manager, "a", deadline=SOON)
    assert stored.loads == ["a", "a"]


async def test_who_does_not_wait_any_longer_stops_no_load(shop):
    manager, stored = shop
    stored.seconds = 0.05
    with pytest.raises(NotReady, match="a is not in memory yet: Loading"):
        await use(manager, "a", deadline=manager._clock() + 0.01)
    assert manager.find("a").leases == 0
    await use(manager, "a")
    assert stored.loads == ["a"]


async def test_without_loading_on_request_somebody_must_ask_for_it():
    stored = StoredModels(sizes=SIZES)
    manager = manager_of(stored, load_on_request=False)
    manager.start_primary(stored_model(10))
    with pytest.raises(ModelUnavailable, match="load it with POST /models/load"):
        await use(manager, "a")
    await manager.load(manager.find("a"), deadline=SOON)
    await use(manager, "a")
    manager.stop(5)


async def test_loading_what_is_loaded_takes_no_time(shop):
    manager, stored = shop
    model = manager.find("a")
    await manager.load(model, deadline=SOON)
    began = manager._clock()
    for _ in range(100):
        await manager.load(model, deadline=SOON)
    assert (manager._clock() - began) / 100 < 0.001
    assert stored.loads == ["a"]


async def test_an_unloaded_model_leaves_nothing_behind(shop):
    manager, _ = shop
    await use(manager, "a")
    service = manager.find("a").service
    thread, backend = service.worker._thread, weakref.ref(service.generation.backend)
    del service
    assert await manager.unload(manager.find("a"))
    assert not await manager.unload(manager.find("a"))
    assert not thread.is_alive()
    gc.collect()
    assert backend() is None


async def test_a_model_whose_thread_died_is_loaded_again(shop, monkeypatch, caplog):
    manager, stored = shop
    await use(manager, "a")
    manager.find("a").service.worker.stop(5)
    with pytest.raises(ModelUnavailable, match="Its thread has died"):
        await use(manager, "a")
    now = manager._clock()
    monkeypatch.setattr(manager, "_clock", lambda: now + 31)
    await use(manager, "a")
    assert stored.loads == ["a", "a"]


async def test_preloaded_models_leave_a_place_for_the_primary():
    stored = StoredModels(sizes=SIZES)
    manager = manager_of(stored, max_loaded=2)
    for name in ("a", "b"):
        model = manager.find(name)
        model.keeping = type(model.keeping)(is_preloaded=True)
    await manager.preload(stored_model(10))
    manager.start_primary(stored_model(10))
    assert len(in_memory(manager)) == 2
    manager.stop(5)


async def test_the_primary_is_not_loaded_by_a_request():
    stored = StoredModels(sizes=SIZES)
    manager = manager_of(stored)
    with pytest.raises(NotReady, match="The model is not ready yet"):
        await use(manager, "main")
    assert stored.loads == []


async def test_leases_end_with_their_scope(shop):
    manager, _ = shop
    with leasing() as held:
        current_leases().add(await manager.lease(manager.find("a"), deadline=SOON))
        assert manager.find("a").leases == 1
    assert manager.find("a").leases == 0
    assert held.model is manager.find("a")
    with pytest.raises(RuntimeError, match="The exchange is over"):
        held.add(await manager.lease(manager.find("a"), deadline=SOON))
    assert manager.find("a").leases == 0
    with pytest.raises(RuntimeError, match="open a scope"):
        current_leases()


uses = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "d"]), st.integers(0, 3), st.sampled_from(["use", "unload"])
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(uses, st.integers(2, 4), st.integers(25, 60))
def test_concurrent_use_never_breaks_the_limits(steps, most, budget):
    asyncio.run(play(steps, most, budget))


async def play(steps, most, budget):
    """Whatever is done at the same time: no limit is passed, and nobody loses a model in use."""
    stored = StoredModels(sizes={"main": 5, "a": 10, "b": 15, "c": 20, "d": 25}, seconds=0)
    manager = manager_of(stored, max_loaded=most, budget_bytes=budget)
    manager.start_primary(stored_model(5))

    async def one(name, turns, what):
        model = manager.find(name)
        if what == "unload":
            await asyncio.gather(manager.unload(model), return_exceptions=True)
            return
        try:
            lease = await manager.lease(model, deadline=SOON)
        except ModelUnavailable:
            assert stored.sizes[name] + 5 > budget or "answers" in str(model.load_failure)
            return
        for _ in range(turns):
            assert model.is_in_memory
            assert model.service.worker.is_alive
            resident = [each for each in manager if each.is_in_memory]
            assert len(resident) <= most
            assert sum(each.size_bytes for each in resident) <= budget
            await asyncio.wait([asyncio.ensure_future(asyncio.to_thread(int))])
        lease.release()

    await asyncio.gather(*(one(*step) for step in steps))
    assert all(model.leases == 0 for model in manager)
    assert manager.primary.is_in_memory
    manager.stop(5)
