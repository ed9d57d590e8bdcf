"""Engines under load: three tenants, four priorities, cancels, deadlines; nothing is mixed up."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from modelserver_runtime.backends.base import SamplingParameters
from modelserver_runtime.engine.batch_composition import BatchLimits
from modelserver_runtime.engine.batch_steps import BatchRules
from modelserver_runtime.engine.batching import BatchEngine, ItemKind
from modelserver_runtime.engine.breaker import Breaker, BreakerLimits
from modelserver_runtime.engine.engine import GenerationEngine
from modelserver_runtime.engine.gate import Gate
from modelserver_runtime.engine.output import TextRules
from modelserver_runtime.engine.queue import QueueLimits
from modelserver_runtime.engine.request import GenerationRequest, Priority, Ticket
from modelserver_runtime.engine.scheduler import SchedulerLimits
from modelserver_runtime.engine.turns import Turns
from modelserver_runtime.errors import (
    BackendFailure,
    DeadlineUnreachable,
    Overloaded,
    QueueTimeout,
    RequestFailure,
    RequestTimeout,
)
from modelserver_runtime.telemetry import Telemetry
from support.fake_model import CountingBackend

REQUESTS = 200
LETTERS = "abcdefghijklmnopqrstuvwxyz"
REFUSALS = (Overloaded, DeadlineUnreachable, QueueTimeout, RequestTimeout)


def a_gate(places: int) -> Gate:
    return Gate(
        Turns(
            places=places,
            limits=QueueLimits(max_waiting=100, ageing_seconds=0.1),
            clock=time.monotonic,
        ),
        Breaker(BreakerLimits(failures=1000, open_seconds=60, probes=1)),
        queue_timeout_seconds=10,
        telemetry=Telemetry().of("test", "test"),
        clock=time.monotonic,
    )


class Doubling:
    """Fails for what can be divided by 37; notes how often it computed what."""

    def __init__(self) -> None:
        self.computed: Counter[int] = Counter()

    def run(self, items: Sequence[int]) -> Sequence[int]:
        if any(item % 37 == 0 for item in items):
            raise RuntimeError("poison")
        self.computed.update(items)
        time.sleep(0.0002 * len(items))
        return [item * 2 for item in items]


def a_batch_engine(model: Doubling) -> BatchEngine[int]:
    return BatchEngine(
        model.run,
        gate=a_gate(16),
        rules=BatchRules(limits=BatchLimits(max_items=8, max_cost=1000), max_wait_seconds=0.002),
        kind=ItemKind(cost=lambda item: 1 + item % 5, key=lambda item: item),
        telemetry=Telemetry().of("test", "test"),
        clock=time.monotonic,
    )


def a_ticket(chooser: random.Random, number: int) -> Ticket:
    now = time.monotonic()
    patience = chooser.choice([0.005, 10, 10, 10, 10])
    return Ticket(
        arrived=now,
        deadline=now + patience,
        priority=chooser.choice(list(Priority)),
        tenant=f"tenant {number % 3}",
    )


async def outcomes_of(chooser: random.Random, tasks: Sequence["asyncio.Task[Any]"]) -> list[Any]:
    """Cancels a fifth of them, some time on their way."""
    for task in chooser.sample(tasks, len(tasks) // 5):
        asyncio.get_running_loop().call_later(chooser.random() * 0.05, task.cancel)
    return await asyncio.gather(*tasks, return_exceptions=True)


def is_explained(outcome: Any) -> bool:
    return isinstance(outcome, (*REFUSALS, asyncio.CancelledError))


def require_empty(gate: Gate) -> None:
    assert (gate.inside, gate.waiting, gate.turns.running) == (0, 0, 0)
    assert gate.turns.free == gate.turns.places


@pytest.mark.parametrize("seed", range(3))
async def test_items_of_200_requests_are_each_answered_with_their_own_answer(seed):
    chooser, model = random.Random(seed), Doubling()
    engine = a_batch_engine(model)
    wanted = [
        [number * 1000 + place for place in range(chooser.choice([1, 1, 2, 5, 40]))]
        for number in range(REQUESTS)
    ]

    async def ask(number: int) -> Any:
        await asyncio.sleep(chooser.random() * 0.05)
        return await engine.run(wanted[number], a_ticket(chooser, number))

    tasks = [asyncio.ensure_future(ask(number)) for number in range(REQUESTS)]
    outcomes = await outcomes_of(chooser, tasks)
    answered = 0
    for items, outcome in zip(wanted, outcomes, strict=True):
        if not isinstance(outcome, list):
            assert is_explained(outcome), outcome
            continue
        answered += 1
        assert len(outcome) == len(items)
        for item, answer in zip(items, outcome, strict=True):
            if isinstance(answer, RequestFailure):
                assert isinstance(answer, RequestTimeout) or item % 37 == 0
                assert item % 37 or isinstance(answer, BackendFailure)
            else:
                assert answer == item * 2
    assert answered > REQUESTS // 4
    require_empty(engine.gate)
    assert set(model.computed.values()) <= {1, 2}, "an input is computed again only after a failure"
    engine.worker.stop(5)


@pytest.mark.parametrize("seed", range(3))
async def test_200_generations_each_get_their_own_text_and_leave_nothing_behind(seed):
    chooser, backend = random.Random(seed), CountingBackend()
    engine = GenerationEngine(
        backend,
        gate=a_gate(8),
        limits=SchedulerLimits(max_running=8, max_batch_tokens=64),
        telemetry=Telemetry().of("test", "test"),
        clock=time.monotonic,
    )

    def request(tokens: int) -> GenerationRequest:
        sampling = SamplingParameters(max_tokens=tokens)
        return GenerationRequest(prompt_token_ids=(1, 2), sampling=sampling, rules=TextRules())

    async def ask(number: int, lengths: Sequence[int]) -> list[str]:
        await asyncio.sleep(chooser.random() * 0.05)
        texts = [""] * len(lengths)
        requests = [request(tokens) for tokens in lengths]
        async with engine.open(requests, a_ticket(chooser, number)) as deltas:
            async for index, delta in deltas:
                texts[index] += delta.text
        return texts

    wanted = [
        [chooser.randrange(1, 26) for _ in range(chooser.choice([1, 1, 1, 2, 12]))]
        for _ in range(REQUESTS)
    ]
    tasks = [asyncio.ensure_future(ask(number, each)) for number, each in enumerate(wanted)]
    outcomes = await outcomes_of(chooser, tasks)
    answered = 0
    for lengths, outcome in zip(wanted, outcomes, strict=True):
        if isinstance(outcome, list):
            answered += 1
            assert outcome == [LETTERS[:length] for length in lengths]
        else:
            assert is_explained(outcome), outcome
    assert answered > REQUESTS // 4
    require_empty(engine.gate)
    async with asyncio.timeout(10):
        while backend.live:  # noqa: ASYNC110  the model's thread sets no event
            await asyncio.sleep(0.005)
    engine.worker.stop(5)
