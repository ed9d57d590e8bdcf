"""The engines' fronts: cancellation frees, failures stay alone, limits hold, death is noticed."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from modelserver_runtime.backends.base import SamplingParameters
from modelserver_runtime.engine.batch_composition import BatchLimits
from modelserver_runtime.engine.batch_steps import BatchRules
from modelserver_runtime.engine.batching import BatchEngine, ItemKind
from modelserver_runtime.engine.breaker import Breaker, BreakerLimits, CircuitState
from modelserver_runtime.engine.engine import GenerationEngine
from modelserver_runtime.engine.gate import Gate
from modelserver_runtime.engine.output import TextRules
from modelserver_runtime.engine.queue import QueueLimits
from modelserver_runtime.engine.request import GenerationRequest, Ticket
from modelserver_runtime.engine.scheduler import SchedulerLimits
from modelserver_runtime.engine.turns import Turns
from modelserver_runtime.errors import (
    BackendFailure,
    CircuitOpen,
    InvalidRequest,
    NotReady,
    Overloaded,
    RequestTimeout,
)
from modelserver_runtime.telemetry import Telemetry
from support.fake_model import CountingBackend


def a_timing(seconds: float = 20) -> Ticket:
    now = time.monotonic()
    return Ticket(arrived=now, deadline=now + seconds)


def a_request(*prompt: int, tokens: int = 3, stop: tuple[str, ...] = ()) -> GenerationRequest:
    return GenerationRequest(
        prompt_token_ids=prompt or (1, 2),
        sampling=SamplingParameters(max_tokens=tokens),
        rules=TextRules(stop_strings=stop),
    )


def a_gate(places: int, waiting: int, **limits: Any) -> Gate:
    breaker = BreakerLimits(**{"failures": 50, "open_seconds": 60, "probes": 1, **limits})
    queue = QueueLimits(max_waiting=waiting, ageing_seconds=5)
    return Gate(
        Turns(places=places, limits=queue, clock=time.monotonic),
        Breaker(breaker),
        queue_timeout_seconds=30,
        telemetry=Telemetry().of("test", "test"),
        clock=time.monotonic,
    )


def a_generation_engine(
    backend: CountingBackend, *, running: int = 4, waiting: int = 4, **limits: Any
) -> Any:
    return GenerationEngine(
        backend,
        gate=a_gate(running, waiting, **limits),
        limits=SchedulerLimits(max_running=running, max_batch_tokens=8),
        telemetry=Telemetry().of("test", "test"),
        clock=time.monotonic,
    )


async def text_of(engine: GenerationEngine, *requests: GenerationRequest, **options: Any) -> Any:
    texts = [""] * len(requests)
    async with engine.open(requests, options.get("ticket") or a_timing()) as deltas:
        async for index, delta in deltas:
            texts[index] += delta.text
    return texts


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  the model's thread sets no event
            await asyncio.sleep(0.005)


@pytest.fixture
def backend() -> CountingBackend:
    return CountingBackend()


@pytest.fixture
async def engine(backend: CountingBackend) -> Any:
    engine = a_generation_engine(backend)
    yield engine
    backend.may_step.set()
    engine.worker.stop(5)


async def test_requests_that_run_together_get_each_their_own_answer(engine, backend):
    answers = await asyncio.gather(
        *(text_of(engine, a_request(tokens=n), a_request(tokens=2)) for n in range(1, 6))
    )
    assert answers == [["abcde"[:n], "ab"] for n in range(1, 6)]
    assert backend.live == {}


async def test_a_stop_string_ends_the_sequence_in_the_backend_too(engine, backend):
    assert await text_of(engine, a_request(tokens=500, stop=("cd",))) == ["ab"]
    assert backend.live == {}


async def test_a_sequence_that_fails_leaves_the_others_alone(engine, backend):
    good = asyncio.ensure_future(text_of(engine, a_request(tokens=20)))
    with pytest.raises(BackendFailure, match="unlucky"):
        await text_of(engine, a_request(13))
    assert await good == ["abcdefghijklmnopqrst"]
    assert backend.live == {}


async def test_one_broken_step_is_survived(engine, backend):
    with pytest.raises(BackendFailure, match="try again"):
        await text_of(engine, a_request(666))
    assert await text_of(engine, a_request()) == ["abc"]
    assert backend.live == {}


async def test_steps_that_always_break_end_the_model(engine):
    for _ in range(4):
        with pytest.raises(BackendFailure):
            await text_of(engine, a_request(666))
    with pytest.raises(BackendFailure, match="stopped working"):
        await text_of(engine, a_request(666))
    await asyncio.wait_for(engine.worker.died.wait(), 5)
    with pytest.raises(NotReady, match="stopped working"):
        await text_of(engine, a_request())
    await until(lambda: not engine.worker.is_alive)


async def test_leaving_early_frees_the_sequence(engine, backend):
    async with engine.open([a_request(tokens=900)], a_timing()) as deltas, aclosing(deltas):
        async for _ in deltas:
            break
    await until(lambda: backend.live == {})
    assert backend.steps < 900


async def test_a_cancelled_request_frees_its_place_while_it_waits(backend):
    engine = a_generation_engine(backend, running=1, waiting=1)
    backend.may_step.clear()
    first = asyncio.ensure_future(text_of(engine, a_request()))
    second = asyncio.ensure_future(text_of(engine, a_request()))
    await until(lambda: engine.gate.inside == 1 and engine.gate.waiting == 1)
    with pytest.raises(Overloaded) as refused:
        await text_of(engine, a_request())
    assert 0 < refused.value.retry_after_seconds <= 60
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    third = asyncio.ensure_future(text_of(engine, a_request(tokens=2)))
    backend.may_step.set()
    assert await first == ["abc"]
    assert await third == ["ab"]
    assert backend.live == {}
    engine.worker.stop(5)


async def test_a_late_answer_is_given_up_and_freed(engine, backend):
    backend.may_step.clear()
    late = asyncio.ensure_future(text_of(engine, a_request(tokens=900), ticket=a_timing(0.2)))
    await asyncio.sleep(0.3)
    backend.may_step.set()
    with pytest.raises(RequestTimeout, match="not complete after"):
        await late
    await until(lambda: backend.live == {})


async def test_a_step_that_does_not_come_back_is_noticed(engine, backend):
    backend.may_step.clear()
    task = asyncio.ensure_future(text_of(engine, a_request()))
    await until(lambda: engine.worker.heartbeat.step_began is not None)
    assert engine.worker.heartbeat.stuck_seconds(time.monotonic() + 100) >= 100
    backend.may_step.set()
    await task
    await until(lambda: engine.worker.heartbeat.step_began is None)


def doubled(items: Sequence[Any]) -> Sequence[Any]:
    for item in items:
        if item == "wrong":
            raise InvalidRequest("this one is wrong")
        if item == "poison":
            raise RuntimeError("poison")
    return [item * 2 for item in items]


def a_batch_engine(run: Any = doubled, probe: Any = None, **limits: int) -> BatchEngine[Any]:
    return BatchEngine(
        run,
        probe=probe,
        gate=a_gate(8, 2),
        rules=BatchRules(
            limits=BatchLimits(**{"max_items": 4, "max_cost": 100, **limits}), max_wait_seconds=0
        ),
        kind=ItemKind(cost=lambda item: len(str(item)), key=lambda item: item),
        telemetry=Telemetry().of("test", "test"),
        clock=time.monotonic,
    )


async def test_items_of_many_requests_share_batches_and_keep_their_order():
    sizes: list[int] = []
    gate = threading.Event()

    def run(items: Sequence[int]) -> Sequence[int]:
        assert gate.wait(10)
        sizes.append(len(items))
        return doubled(items)

    engine = a_batch_engine(run)
    tasks = [asyncio.ensure_future(engine.run([n, n + 1, n + 2], a_timing())) for n in (0, 10, 20)]
    await until(lambda: engine.gate.inside == 2 and engine.gate.waiting == 1)
    gate.set()
    assert await asyncio.gather(*tasks) == [[0, 2, 4], [20, 22, 24], [40, 42, 44]]
    assert max(sizes) == 4
    assert sum(sizes) == 9
    engine.worker.stop(5)


async def test_only_the_item_at_fault_fails():
    engine = a_batch_engine()
    first, second, third, fourth = await engine.run([1, "wrong", "poison", 2], a_timing())
    assert (first, fourth) == (2, 4)
    assert isinstance(second, InvalidRequest)
    assert isinstance(third, BackendFailure)
    assert "poison" in third.message
    engine.worker.stop(5)


async def test_a_batch_holds_no_more_than_its_cost_but_one_item_always_fits():
    sizes: list[int] = []
    engine = a_batch_engine(lambda items: sizes.append(len(items)) or items, max_cost=5)
    await engine.run(["aaaa", "bb", "cc", "d" * 50, "e"], a_timing())
    assert sizes == [1, 2, 1, 1]
    engine.worker.stop(5)


def poisoned(_: Sequence[Any]) -> Sequence[Any]:
    raise ValueError("not this one")


async def test_inputs_beyond_a_model_that_is_well_take_it_from_nobody():
    engine = a_batch_engine(poisoned, probe=lambda: None)
    for number in range(60):
        [answer] = await engine.run([number], a_timing())
        assert isinstance(answer, BackendFailure)
    assert set(engine.gate.circuits().values()) == {CircuitState.CLOSED}


async def test_a_model_that_cannot_compute_its_own_sample_is_left_alone():
    engine = a_batch_engine(poisoned, probe=lambda: poisoned([]))
    for number in range(50):
        await engine.run([number], a_timing())
    with pytest.raises(CircuitOpen):
        await engine.run([50], a_timing())


async def test_an_item_that_waits_too_long_is_refused_and_a_cancelled_one_is_not_computed():
    gate, seen = threading.Event(), []

    def run(items: Sequence[Any]) -> Sequence[Any]:
        assert gate.wait(10)
        seen.extend(items)
        return items

    engine = a_batch_engine(run, max_items=1)
    running = asyncio.ensure_future(engine.run(["first"], a_timing()))
    await until(lambda: engine.worker.heartbeat.step_began is not None)
    cancelled = asyncio.ensure_future(engine.run(["cancelled"], a_timing()))
    await until(lambda: engine.gate.inside == 2)
    with pytest.raises(RequestTimeout, match="not answered in time"):
        await engine.run(["late"], a_timing(0.05))
    cancelled.cancel()
    await asyncio.wait([cancelled])
    gate.set()
    assert await running == ["first"]
    assert await engine.run(["last"], a_timing()) == ["last"]
    assert seen == ["first", "last"]
    engine.worker.stop(5)


async def test_a_reader_that_is_slower_than_the_model_is_told_all_that_waits_at_once(engine):
    [whole] = await text_of(engine, a_request(tokens=20))
    told = []
    async with engine.open([a_request(tokens=20)], a_timing()) as deltas:
        async for _, delta in deltas:
            told.append(delta)
            # The place is free when the model is done, however slowly the client reads.
            await until(lambda: engine.gate.turns.free == 4)
    assert 1 <= len(told) <= 2
    assert "".join(delta.text for delta in told) == whole
    assert told[-1].completion_tokens == 20
