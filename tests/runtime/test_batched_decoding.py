"""Sequences that are decoded together get the same tokens as alone, and the same failures."""

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelserver_runtime.artifacts import Phase, Progress
from modelserver_runtime.backends.base import (
    SamplingParameters,
    SequenceSpec,
    TokenOutput,
)
from modelserver_runtime.backends.causal_lm import CausalLanguageModel
from modelserver_runtime.backends.detection import identify
from modelserver_runtime.backends.loading import LoadOptions
from modelserver_runtime.backends.native.language_model import NativeLanguageModel
from modelserver_runtime.backends.registry import load_model
from modelserver_runtime.engine.request import Ticket
from modelserver_runtime.engine.scheduler import Scheduler, SchedulerLimits
from modelserver_runtime.errors import FailureClass
from support import tiny_models
from support.native_engine import needs_native_engine

FAR = 1e9
_TOO_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
GREEDY = SamplingParameters(max_tokens=6, temperature=0, ignore_end=True, logprobs=0)


type Backend = CausalLanguageModel | NativeLanguageModel


def loaded(directory: Path) -> Backend:
    identity = identify(directory, "Auto")
    options = LoadOptions(directory=directory, name="tiny", threads=1)
    progress = Progress(phase=Phase.LOADING, clock=time.monotonic)
    backend: Any = load_model(options, identity, progress).backend
    return backend


def by_transformers(folder: Path, dtype: torch.dtype) -> CausalLanguageModel:
    backend = loaded(tiny_models.causal_model(folder / "causal", dtype=dtype))
    assert isinstance(backend, CausalLanguageModel)
    assert backend.decodes_together
    return backend


ENGINES = ["float32", "bfloat16", pytest.param("native", marks=needs_native_engine)]


@pytest.fixture(scope="module", params=ENGINES)
def backend(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Backend:
    folder = tmp_path_factory.mktemp("models")
    if request.param != "native":
        return by_transformers(folder, getattr(torch, request.param))
    made = loaded(tiny_models.causal_model(folder / "causal", dtype=torch.bfloat16, width=128))
    assert isinstance(made, NativeLanguageModel)
    return made


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def backend_of_transformers(
    request: Any, tmp_path_factory: pytest.TempPathFactory
) -> CausalLanguageModel:
    return by_transformers(tmp_path_factory.mktemp("models"), getattr(torch, request.param))


def specs_of(
    prompts: Sequence[Sequence[int]], sampling: Sequence[SamplingParameters]
) -> list[SequenceSpec]:
    return [
        SequenceSpec(sequence_id=index, prompt_token_ids=tuple(prompt), sampling=each)
        for index, (prompt, each) in enumerate(zip(prompts, sampling, strict=True))
    ]


def outputs_of(
    backend: Backend,
    specs: Sequence[SequenceSpec],
    *,
    together: int,
    arrivals: Sequence[int] = (),
) -> dict[int, list[Any]]:
    """Tokens with their log probabilities; sequence n joins in step `arrivals[n]`."""
    limits = SchedulerLimits(
        max_running=together, max_batch_tokens=16, cuts_prompts=backend.limits.cuts_prompts
    )
    scheduler = Scheduler(limits, backend.memory)
    outputs: dict[int, list[Any]] = {spec.sequence_id: [] for spec in specs}
    pending = {spec.sequence_id: (at, spec) for at, spec in _joined(arrivals, specs)}
    step = 0
    while pending or scheduler.has_work:
        for spec in [spec for at, spec in pending.values() if at <= step]:
            backend.add(spec)
            scheduler.add(spec, Ticket(arrived=0, deadline=FAR))
            del pending[spec.sequence_id]
        for output in backend.step(scheduler.schedule(0).work):
            _note(backend, scheduler, specs, outputs, output)
        step += 1
    return outputs


def _joined(
    arrivals: Sequence[int], specs: Sequence[SequenceSpec]
) -> list[tuple[int, SequenceSpec]]:
    return list(zip([*arrivals, *[0] * (len(specs) - len(arrivals))], specs, strict=True))


def _note(
    backend: Backend,
    scheduler: Scheduler,
    specs: Sequence[SequenceSpec],
    outputs: dict[int, list[Any]],
    output: TokenOutput,
) -> None:
    own = outputs[output.sequence_id]
    if output.failure:
        own.append((output.failure_class, output.failure))
    elif output.token_id is not None:
        own.append((output.token_id, output.logprobs and output.logprobs.logprob))
        scheduler.advance(output.sequence_id)
    wanted = specs[output.sequence_id].sampling.max_tokens
    if output.failure or len(own) == wanted:
        scheduler.remove(output.sequence_id)
        backend.free(output.sequence_id)


sampled = st.builds(
    SamplingParameters,
    max_tokens=st.integers(1, 8),
    temperature=st.sampled_from([0.0, 0.0, 0.7, 1.3]),
    top_p=st.sampled_from([1.0, 0.8]),
    top_k=st.sampled_from([0, 5]),
    repetition_penalty=st.sampled_from([1.0, 1.2]),
    seed=st.integers(0, 2**62),
    ignore_end=st.just(True),
    logprobs=st.just(0),
)
sequences = st.lists(
    st.tuples(st.lists(st.integers(1, 300), min_size=1, max_size=24), sampled, st.integers(0, 5)),
    min_size=1,
    max_size=6,
)


@settings(max_examples=8, deadline=None, suppress_health_check=_TOO_SLOW)
@given(sequences, st.integers(2, 6))
def test_every_composition_gives_each_sequence_what_it_gets_alone(backend, drawn, together):
    """Token ids and log probabilities to the last bit, greedy and with a seed."""
    specs = specs_of([entry[0] for entry in drawn], [entry[1] for entry in drawn])
    arrivals = [entry[2] for entry in drawn]
    alone = outputs_of(backend, specs, together=1)
    assert outputs_of(backend, specs, together=together, arrivals=arrivals) == alone


def test_many_sequences_at_once_are_the_same_as_one_after_the_other(backend):
    chooser = random.Random(5)
    lengths = [chooser.randrange(1, 30) for _ in range(33)]
    prompts = [[chooser.randrange(1, 300) for _ in range(length)] for length in lengths]
    specs = specs_of(prompts, [GREEDY] * len(prompts))
    assert outputs_of(backend, specs, together=33) == outputs_of(backend, specs, together=1)


def test_a_sequence_whose_numbers_are_none_fails_alone(backend, monkeypatch):
    specs = specs_of([[1, 2], [3, 4], [5, 6]], [GREEDY] * 3)
    alone = outputs_of(backend, specs, together=1)
    original = backend._sampled

    def broken(sequence: Any, row: torch.Tensor) -> TokenOutput:
        is_second = sequence.spec is specs[1]
        return original(sequence, row * torch.nan if is_second else row)

    monkeypatch.setattr(backend, "_sampled", broken)
    outputs = outputs_of(backend, specs, together=3)
    assert outputs[0] == alone[0]
    assert outputs[2] == alone[2]
    assert outputs[1][-1][0] is FailureClass.INVALID_OUTPUT
    assert "no number" in outputs[1][-1][1]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_sampler_refuses_what_is_no_number(backend, temperature, value):
    spec = specs_of([[1]], [SamplingParameters(max_tokens=2, temperature=temperature)])[0]
    backend.add(spec)
    logits = torch.zeros(backend.limits.vocabulary_size)
    logits[7] = value
    output = backend._sampled(backend._sequences[0], logits)
    assert output.failure_class is FailureClass.INVALID_OUTPUT
    backend.free(0)


def test_a_step_that_breaks_off_half_way_is_done_again_one_by_one(
    backend_of_transformers, monkeypatch
):
    """The first layer has its keys when the last one fails; nobody may keep them twice."""
    backend = backend_of_transformers
    specs = specs_of([[1, 2], [3, 4, 5], [6]], [GREEDY] * 3)
    alone = outputs_of(backend, specs, together=1)
    last = backend._model.model.layers[-1]
    calls = {"together": 0}
    forward = last.forward

    def sometimes_broken(hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if hidden.shape[0] == 4 and len(kwargs["past_key_values"]._caches) == 3:
            calls["together"] += 1
            if calls["together"] == 3:
                raise RuntimeError("could not allocate memory")
        return forward(hidden, *args, **kwargs)

    def first_is_poison(hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        del hidden, args, kwargs
        raise RuntimeError("could not allocate memory")

    monkeypatch.setattr(last, "forward", _only_for_decoding(sometimes_broken, forward))
    assert outputs_of(backend, specs, together=3) == alone
    assert calls["together"] > 3
    monkeypatch.setattr(last, "forward", _only_for_decoding(first_is_poison, forward))
    outputs = outputs_of(backend, specs, together=3)
    assert {own[-1][0] for own in outputs.values()} == {FailureClass.OUT_OF_MEMORY}


def _only_for_decoding(function: Any, otherwise: Any) -> Any:
    def forward(hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        is_step = hasattr(kwargs.get("past_key_values"), "_caches")
        return (function if is_step else otherwise)(hidden, *args, **kwargs)

    return forward
