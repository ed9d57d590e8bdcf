"""Answers that were interrupted because memory was short are those that were not, to the bit."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelserver_runtime.artifacts import Phase, Progress
from modelserver_runtime.backends.base import Grammar, GrammarKind, SamplingParameters
from modelserver_runtime.backends.detection import identify
from modelserver_runtime.backends.loading import LoadOptions
from modelserver_runtime.backends.native.blocks import BLOCK_TOKENS
from modelserver_runtime.backends.native.language_model import NativeLanguageModel
from modelserver_runtime.backends.registry import load_model
from modelserver_runtime.engine.generation import (
    AddSequence,
    CancelSequence,
    GenerationSteps,
    SequenceEvent,
)
from modelserver_runtime.engine.output import TextRules
from modelserver_runtime.engine.request import GenerationRequest, Priority, Ticket
from modelserver_runtime.engine.scheduler import Scheduler, SchedulerLimits
from modelserver_runtime.telemetry import Telemetry
from support import tiny_models
from support.native_engine import needs_native_engine

pytestmark = needs_native_engine

FAR = 1e9
# What one sequence may need: with so few, those of a test that answer do not all fit.
FEWEST_BLOCKS = 5
MOST_TOKENS = FEWEST_BLOCKS * BLOCK_TOKENS
PREEMPTIONS = "modelserver_preemptions_total"


@pytest.fixture(scope="module", params=[0, 6], ids=["without guesses", "with guesses"])
def backend(request: Any, tmp_path_factory: pytest.TempPathFactory) -> NativeLanguageModel:
    directory = tiny_models.causal_model(
        Path(tmp_path_factory.mktemp("models")) / "causal",
        dtype=torch.bfloat16,
        width=128,
        most_tokens=MOST_TOKENS,
    )
    options = LoadOptions(
        directory=directory, name="tiny", threads=1, speculative_tokens=request.param
    )
    progress = Progress(phase=Phase.LOADING, clock=time.monotonic)
    made = load_model(options, identify(directory, "Auto"), progress).backend
    assert isinstance(made, NativeLanguageModel)
    return made


class Engine:
    """The steps of a backend of which all blocks but some are taken."""

    def __init__(self, backend: NativeLanguageModel, blocks: int) -> None:
        self.backend, self.pool = backend, backend._pool
        limits = SchedulerLimits(max_running=8, max_batch_tokens=200, cuts_prompts=True)
        self.telemetry = Telemetry()
        metrics = self.telemetry.of("test", "test")
        scheduler = Scheduler(limits, backend.memory)
        self.steps = GenerationSteps(backend, scheduler, metrics, count().__next__)
        self.deltas: dict[int, list[Any]] = {}
        self.taken = [self.pool.take() for _ in range(self.pool.available - blocks)]

    def close(self) -> None:
        """Whatever has happened, all blocks are there again."""
        for block in self.taken:
            self.pool.release(block)
        assert self.pool.available == self.backend.memory.blocks
        assert not self.backend._sequences

    def add(self, sequence_id: int, request: GenerationRequest, priority: Priority) -> None:
        ticket = Ticket(arrived=0, deadline=FAR, priority=priority)
        self.deltas[sequence_id] = []
        self.steps.accept(AddSequence(sequence_id=sequence_id, request=request, ticket=ticket))

    def step(self) -> None:
        self._note(self.steps.step(0))

    def _note(self, events: Sequence[SequenceEvent]) -> None:
        for event in events:
            assert event.failure is None
            self.deltas[event.sequence_id].append(event.delta)

    def preemptions(self) -> float:
        labels = {"model": "test", "revision": "test"}
        return self.telemetry.registry.get_sample_value(PREEMPTIONS, labels) or 0


def answers_of(
    backend: NativeLanguageModel,
    requests: Sequence[GenerationRequest],
    *,
    blocks: int,
    priorities: Sequence[Priority] = (),
    cancel: Mapping[int, int] | None = None,
) -> tuple[dict[int, Any], float]:
    """What clients get of each, and how often one gave way; `cancel` says in which step who goes.

    The counts of cached tokens are left out: they tell what others have left behind.
    """
    engine = Engine(backend, blocks)
    levels = [*priorities, *[Priority.NORMAL] * (len(requests) - len(priorities))]
    try:
        for sequence_id, request in enumerate(requests):
            engine.add(sequence_id, request, levels[sequence_id])
        gone = {step: sequence_id for sequence_id, step in (cancel or {}).items()}
        for step in count():
            if step in gone:
                engine.steps.accept(CancelSequence(sequence_id=gone[step]))
                del engine.deltas[gone[step]]
            if not engine.steps.has_work:
                break
            engine.step()
    finally:
        engine.close()
    told = {
        sequence_id: [replace(delta, cached_tokens=0) for delta in deltas]
        for sequence_id, deltas in engine.deltas.items()
    }
    return told, engine.preemptions()


def a_request(number: int, *, prompt: int = 60, **options: Any) -> GenerationRequest:
    generator = torch.Generator().manual_seed(number)
    token_ids = torch.randint(5, 300, (prompt,), generator=generator).tolist()
    stop = options.pop("stop", ())
    sampling = {"max_tokens": 72, "temperature": 0.0, "ignore_end": True, **options}
    return GenerationRequest(
        prompt_token_ids=tuple(token_ids),
        sampling=SamplingParameters(**sampling),
        rules=TextRules(stop_strings=stop),
        cache_salt=str(number),
    )


WORDS = Grammar(kind=GrammarKind.REGEX, text="([a-e]{1,9} ){12,16}")
KINDS: Mapping[str, Mapping[str, Any]] = {
    "greedy": {"logprobs": 2},
    "with a seed": {"temperature": 1.0, "seed": 7, "top_p": 0.95, "top_k": 50},
    "with penalties": {
        "temperature": 0.9,
        "seed": 8,
        "frequency_penalty": 0.5,
        "presence_penalty": 0.2,
        "repetition_penalty": 1.2,
    },
    "with stop strings": {"temperature": 1.5, "seed": 9, "stop": ("zz", "qu")},
    "with a grammar": {"temperature": 1.0, "seed": 10, "grammar": WORDS},
    "with log probabilities of the prompt": {"prompt_logprobs": 1},
}


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=() if kind == "greedy" else pytest.mark.slow) for kind in KINDS],
)
def test_an_answer_that_was_interrupted_is_the_same(backend, kind):
    requests = [a_request(number, **KINDS[kind]) for number in range(3)]
    alone = [answers_of(backend, [request], blocks=FEWEST_BLOCKS) for request in requests]
    together, preemptions = answers_of(backend, requests, blocks=FEWEST_BLOCKS)
    assert preemptions > 0
    assert [together[number] for number in range(3)] == [told[0] for told, _ in alone]


@pytest.mark.slow
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    drawn=st.lists(
        st.tuples(
            st.integers(1, 120),
            st.integers(1, 100),
            st.sampled_from(["greedy", "with a seed", "with penalties"]),
            st.sampled_from(list(Priority)),
        ),
        min_size=2,
        max_size=6,
    ),
    blocks=st.integers(FEWEST_BLOCKS, 8),
    cancel=st.dictionaries(st.integers(0, 1), st.integers(0, 120), max_size=1),
)
def test_whoever_gives_way_or_goes_nobody_else_notices(backend, drawn, blocks, cancel):
    requests = [
        a_request(number, prompt=prompt, **{**KINDS[kind], "max_tokens": tokens})
        for number, (prompt, tokens, kind, _) in enumerate(drawn)
    ]
    priorities = [entry[3] for entry in drawn]
    roomy, none = answers_of(backend, requests, blocks=100)
    assert none == 0
    short, _ = answers_of(backend, requests, blocks=blocks, priorities=priorities, cancel=cancel)
    assert short == {number: roomy[number] for number in short}
    assert len(requests) - len(short) <= len(cancel)
