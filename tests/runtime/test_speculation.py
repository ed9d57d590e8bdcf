"""Answers are the same to the last bit whether tokens of them were guessed or not."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelserver_runtime.artifacts import Phase, Progress
from modelserver_runtime.backends.base import (
    Grammar,
    GrammarKind,
    SamplingParameters,
    SequenceSpec,
    TokenOutput,
    Work,
)
from modelserver_runtime.backends.detection import identify
from modelserver_runtime.backends.loading import LoadOptions
from modelserver_runtime.backends.native.blocks import BLOCK_TOKENS
from modelserver_runtime.backends.native.language_model import NativeLanguageModel
from modelserver_runtime.backends.native.speculation import Speculator
from modelserver_runtime.backends.registry import load_model
from support import tiny_models
from support.native_engine import needs_native_engine

pytestmark = needs_native_engine

MOST_GUESSED = 5
PROMPT = tuple([5, 6, 7, 8, 9, 10, 11, 12] * 4)


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> NativeLanguageModel:
    folder = tmp_path_factory.mktemp("models")
    directory: Path = tiny_models.causal_model(folder / "causal", dtype=torch.bfloat16, width=128)
    options = LoadOptions(directory=directory, name="tiny", threads=1)
    progress = Progress(phase=Phase.LOADING, clock=time.monotonic)
    made = load_model(options, identify(directory, "Auto"), progress).backend
    assert isinstance(made, NativeLanguageModel)
    return made


class Eager(Speculator):
    """Computes everything that was guessed, however long that takes."""

    def __init__(self) -> None:
        super().__init__(MOST_GUESSED)

    def guesses(self, guessers, most, rows):  # noqa: ARG002  as in what it replaces
        return [each.guess(count) for each, count in zip(guessers, most, strict=True)]


def answers(
    backend: NativeLanguageModel, specs: Sequence[SequenceSpec], *, guess: bool
) -> dict[int, list[TokenOutput]]:
    """Of sequences that are generated together, each with a cache of its own."""
    backend.speculator = Eager() if guess else Speculator(0)
    outputs: dict[int, list[TokenOutput]] = {each.sequence_id: [] for each in specs}
    for each in specs:
        backend.add(replace(each, cache_salt=f"{each.sequence_id} {guess}"))
    left = {each.sequence_id: len(each.prompt_token_ids) for each in specs}
    wanted = {each.sequence_id: each.sampling.max_tokens for each in specs}
    while left:
        for output in backend.step([Work(sequence_id=i, tokens=n) for i, n in left.items()]):
            outputs[output.sequence_id].append(output)
        for sequence_id in list(left):
            own = outputs[sequence_id]
            left[sequence_id] = 1
            if own[-1].failure or len(own) >= wanted[sequence_id]:
                backend.free(sequence_id)
                del left[sequence_id]
    return outputs


def told(outputs: Sequence[TokenOutput]) -> list[object]:
    return [(each.token_id, each.logprobs, each.failure) for each in outputs]


def guessed(outputs: Sequence[TokenOutput]) -> tuple[int, int]:
    """Tokens that were right and wrong."""
    outcomes = [each.guess for each in outputs if each.guess]
    return sum(each.is_right for each in outcomes), sum(each.wrong for each in outcomes)


def spec(sampling: SamplingParameters, *, prediction=(), prompt=PROMPT, sequence_id=1):
    return SequenceSpec(
        sequence_id=sequence_id, prompt_token_ids=prompt, sampling=sampling, prediction=prediction
    )


GREEDY = SamplingParameters(max_tokens=30, temperature=0, ignore_end=True, logprobs=2)
WAYS = {
    "greedy": GREEDY,
    "seeded": replace(GREEDY, temperature=1.0, seed=3),
    "narrow": replace(GREEDY, temperature=0.9, top_p=0.8, top_k=40, min_p=0.01, seed=4),
    "penalties": replace(
        GREEDY, repetition_penalty=1.3, presence_penalty=0.4, frequency_penalty=0.2
    ),
    "penalties, seeded": replace(GREEDY, temperature=0.8, frequency_penalty=1.0, seed=5),
    "biased": replace(GREEDY, temperature=0.8, seed=6, logit_bias={7: 3.0, 300: 2.0}),
    "an end, not too early": replace(GREEDY, temperature=1.0, seed=7, min_tokens=8),
    "grammar": replace(
        GREEDY,
        temperature=1.0,
        seed=8,
        max_tokens=12,
        grammar=Grammar(kind=GrammarKind.REGEX, text="[a-z]{40}"),
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_right_prediction_changes_no_bit(backend, way):
    """The answer itself is predicted: most of it is taken over, a few tokens a step."""
    sampling = WAYS[way]
    plain = answers(backend, [spec(sampling)], guess=False)[1]
    said = tuple(each.token_id for each in plain)
    quick = answers(backend, [spec(sampling, prediction=said)], guess=True)[1]
    assert told(quick) == told(plain)
    right, wrong = guessed(quick)
    assert right > len(said) / 2
    assert all(each.guess.is_prediction for each in quick if each.guess)
    assert wrong <= right


@pytest.mark.parametrize("way", WAYS)
def test_a_wrong_prediction_changes_no_bit(backend, way):
    """Every third token of it is another one."""
    sampling = WAYS[way]
    plain = answers(backend, [spec(sampling)], guess=False)[1]
    prediction = tuple(
        (each.token_id + 1) % 300 if at % 3 == 2 else each.token_id for at, each in enumerate(plain)
    )
    quick = answers(backend, [spec(sampling, prediction=prediction)], guess=True)[1]
    assert told(quick) == told(plain)
    right, wrong = guessed(quick)
    assert right
    assert wrong


def test_what_the_text_repeats_is_guessed(backend):
    """A model that says what its bias says repeats itself, and is believed to go on."""
    sampling = replace(GREEDY, logit_bias={9: 100.0})
    plain = answers(backend, [spec(sampling)], guess=False)[1]
    quick = answers(backend, [spec(sampling)], guess=True)[1]
    assert told(quick) == told(plain)
    right, _ = guessed(quick)
    assert right > len(quick) / 2
    assert not any(each.guess.is_prediction for each in quick if each.guess)


def test_nothing_is_said_after_an_end(backend):
    [end] = backend.limits.end_token_ids
    sampling = replace(GREEDY, ignore_end=False, logit_bias={end: 100.0}, min_tokens=2)
    backend.speculator = Eager()
    plain = answers(backend, [spec(replace(sampling, max_tokens=3))], guess=False)[1]
    prediction = (*(each.token_id for each in plain), 8, 9)
    backend.speculator = Eager()
    backend.add(spec(sampling, prediction=prediction))
    [first] = backend.step([Work(sequence_id=1, tokens=len(PROMPT))])
    rest = backend.step([Work(sequence_id=1, tokens=1)])
    backend.free(1)
    assert [first.token_id, *(each.token_id for each in rest)] == list(prediction[:3])
    assert guessed(rest) == (2, 2)


def test_a_failure_comes_after_what_was_said_before_it(backend):
    sampling = replace(
        GREEDY, max_tokens=12, grammar=Grammar(kind=GrammarKind.REGEX, text="[a-z]{3}")
    )
    plain = answers(backend, [spec(sampling)], guess=False)[1]
    said = tuple(each.token_id for each in plain if each.token_id is not None)
    quick = answers(backend, [spec(sampling, prediction=(*said, 5, 6))], guess=True)[1]
    assert told(quick) == told(plain)


def test_the_next_turn_finds_only_what_was_said(backend):
    """Blocks are filled with wrong guesses and written over before anybody can find them."""
    prompt = tuple(range(5, 5 + BLOCK_TOKENS - 10))
    sampling = replace(GREEDY, max_tokens=40)
    plain = answers(backend, [spec(sampling, prompt=prompt)], guess=False)[1]
    wrong = tuple((each.token_id + at % 2) % 300 for at, each in enumerate(plain))
    backend.speculator = Eager()
    answers(backend, [spec(sampling, prompt=prompt, prediction=wrong)], guess=True)
    longer = (*prompt, *(each.token_id for each in plain), 7, 8)
    results = []
    for salt in ("1 True", "fresh"):
        backend.add(replace(spec(sampling, prompt=longer), cache_salt=salt))
        [output] = backend.step([Work(sequence_id=1, tokens=len(longer))])
        results.append(output)
        backend.free(1)
    assert [each.cached_tokens for each in results] == [BLOCK_TOKENS, 0]
    assert results[0].token_id == results[1].token_id
    assert results[0].logprobs == results[1].logprobs


def test_without_a_free_block_nothing_is_guessed_beyond_the_last_one(backend):
    pool = backend._pool
    taken = [pool.take() for _ in range(pool.available - 2)]
    prompt = PROMPT + PROMPT[: BLOCK_TOKENS - len(PROMPT) - 4]
    plain = answers(backend, [spec(GREEDY, prompt=prompt)], guess=False)[1]
    said = tuple(each.token_id for each in plain)
    try:
        quick = answers(backend, [spec(GREEDY, prompt=prompt, prediction=said)], guess=True)[1]
    finally:
        for block in taken:
            pool.release(block)
    assert told(quick) == told(plain)
    assert guessed(quick)[0]


drawn = st.builds(
    SamplingParameters,
    max_tokens=st.integers(1, 20),
    temperature=st.sampled_from([0.0, 1.0]),
    top_p=st.sampled_from([1.0, 0.8]),
    repetition_penalty=st.sampled_from([1.0, 1.2]),
    seed=st.integers(0, 2**62),
    ignore_end=st.just(True),
    logprobs=st.just(0),
)
prompts = st.lists(st.integers(5, 9), min_size=1, max_size=80)
predictions = st.lists(st.integers(5, 9), max_size=30)


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(st.tuples(prompts, predictions, drawn), min_size=1, max_size=4))
def test_guesses_of_some_change_nothing_for_any(backend, entries):
    """Few different tokens, so that much is guessed, rightly and wrongly."""
    specs = [
        spec(
            replace(sampling, logit_bias=dict.fromkeys(range(5, 10), 50.0)),
            prompt=tuple(prompt),
            prediction=tuple(prediction),
            sequence_id=index,
        )
        for index, (prompt, prediction, sampling) in enumerate(entries)
    ]
    plain = answers(backend, specs, guess=False)
    quick = answers(backend, specs, guess=True)
    assert {key: told(own) for key, own in quick.items()} == {
        key: told(own) for key, own in plain.items()
    }


def test_all_blocks_come_back(backend):
    before = backend._pool.available
    answers(backend, [spec(GREEDY, prediction=tuple(range(5, 80)))], guess=True)
    assert backend._pool.available == before
