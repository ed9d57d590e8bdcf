"""Tokens are drawn as likely as the model finds them, of those that are kept."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from modelserver_runtime.backends.base import SamplingParameters
from modelserver_runtime.backends.distribution import draw, likeliest_tokens, weights_of
from modelserver_runtime.backends.penalties import Penalties
from modelserver_runtime.backends.sampling import InvalidLogits, Sampler

# Less than is sorted at once, and more; both are no whole number of blocks.
SIZES = [7, 300, 5000]


def logits_of(size: int, seed: int, scale: float) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(size) * scale).astype(np.float32)


def kept_by_sorting(probabilities, top_k, top_p, min_p) -> set[int]:
    """The definition, token by token, the likeliest first."""
    order = np.argsort(-probabilities, kind="stable")[: top_k or None]
    left = probabilities[order] / probabilities[order].sum()
    before = np.cumsum(left) - left
    largest = left[0]
    return {
        int(token)
        for token, share, sum_before in zip(order, left, before, strict=True)
        if (sum_before < top_p or token == order[0]) and share >= min_p * largest
    }


@settings(max_examples=60, deadline=None)
@given(
    size=st.sampled_from(SIZES),
    seed=st.integers(0, 2**20),
    scale=st.sampled_from([0.1, 1.0, 4.0, 20.0]),
    top_k=st.sampled_from([0, 1, 5, 299, 2000]),
    top_p=st.sampled_from([1.0, 0.99, 0.9, 0.3, 1e-4]),
    min_p=st.sampled_from([0.0, 0.01, 0.5]),
    uniform=st.floats(0, 1, exclude_max=True),
)
def test_only_what_is_kept_is_drawn(size, seed, scale, top_k, top_p, min_p, uniform):  # noqa: PLR0917  drawn
    weights = weights_of(logits_of(size, seed, scale), 1.0)
    exact = weights.astype(np.float64)
    assume(np.unique(exact).size == size)
    kept = kept_by_sorting(exact, top_k, top_p, min_p)
    # What lies just at a threshold may fall on either side of it.
    roomy = kept_by_sorting(exact, top_k, top_p * (1 + 1e-5), min_p * (1 - 1e-5))
    drawn = draw(weights, uniform, top_k=top_k, top_p=top_p, min_p=min_p)
    assert drawn in kept | roomy
    assert weights[drawn] > 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "kept",
    [
        {"top_k": 0, "top_p": 1.0, "min_p": 0.0},
        {"top_k": 40, "top_p": 1.0, "min_p": 0.0},
        {"top_k": 0, "top_p": 0.7, "min_p": 0.0},
        {"top_k": 2500, "top_p": 0.9, "min_p": 0.02},
    ],
)
def test_tokens_are_drawn_as_often_as_they_are_likely(size, kept):
    weights = weights_of(logits_of(size, 3, 2.0), 0.8)
    exact = weights.astype(np.float64)
    tokens = sorted(kept_by_sorting(exact, kept["top_k"], kept["top_p"], kept["min_p"]))
    draws = 4000
    drawn = Counter(draw(weights, (at + 0.5) / draws, **kept) for at in range(draws))
    assert set(drawn) <= set(tokens)
    total = exact[tokens].sum()
    for token in tokens:
        # Of draws at equal distances, each token has its share, up to one at each of its ends.
        assert abs(drawn[token] - draws * exact[token] / total) <= 2


def test_all_tokens_are_drawn_from_where_all_are_equal():
    weights = weights_of(np.zeros(1500, np.float32), 1.0)
    drawn = {draw(weights, (at + 0.5) / 1500, top_k=0, top_p=0.5, min_p=0.9) for at in range(1500)}
    assert drawn == set(range(1500))


def test_a_token_that_is_ruled_out_is_never_drawn():
    logits = np.full(1000, -np.inf, np.float32)
    logits[[10, 400]] = 0.0
    weights = weights_of(logits, 1.0)
    almost_one = math.nextafter(1, 0)
    ends = {draw(weights, at, top_k=0, top_p=1.0, min_p=0.0) for at in (0.0, 0.49, 0.5, almost_one)}
    assert ends == {10, 400}


@settings(max_examples=40, deadline=None)
@given(
    size=st.sampled_from(SIZES),
    seed=st.integers(0, 2**20),
    scale=st.sampled_from([0.0, 0.5, 5.0]),
    count=st.sampled_from([0, 1, 20, 5000]),
)
def test_the_likeliest_tokens_come_first_and_of_equal_ones_the_first(size, seed, scale, count):
    logits = logits_of(size, seed, scale).round(2)
    tokens, total = likeliest_tokens(logits, count)
    assert tokens.tolist() == np.argsort(-logits, kind="stable")[:count].tolist()
    assert total == pytest.approx(float(torch.logsumexp(torch.tensor(logits), -1)), abs=1e-4)


def test_penalties_are_those_of_their_definitions():
    parameters = SamplingParameters(
        max_tokens=9, repetition_penalty=2.0, presence_penalty=0.5, frequency_penalty=0.25
    )
    penalties = Penalties(parameters, [1, 1, 2])
    for token_id in (2, 3, 3):
        penalties.note(token_id)
    logits = np.array([1.0, 1.0, -1.0, 4.0], np.float32)
    penalties.apply(logits)
    # The first is in no text, the second in the prompt, the third in both, the last twice.
    assert logits.tolist() == [1.0, 0.5, -2.0 - 0.75, 2.0 - 1.0]


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_what_is_no_number_is_no_answer(temperature, wrong):
    logits = torch.zeros(50)
    logits[20] = wrong
    parameters = SamplingParameters(max_tokens=1, temperature=temperature)
    with pytest.raises(InvalidLogits):
        Sampler(parameters, (), frozenset()).sample(logits)


def sampled(logits: torch.Tensor, **parameters) -> list[int]:
    sampler = Sampler(SamplingParameters(max_tokens=40, **parameters), (1,), frozenset({2}))
    return [sampler.sample(logits.clone())[0] for _ in range(40)]


def test_a_seed_repeats_and_another_one_does_not():
    logits = torch.randn(500, generator=torch.Generator().manual_seed(1))
    assert sampled(logits, seed=7) == sampled(logits, seed=7)
    assert sampled(logits, seed=7) != sampled(logits, seed=8)
    assert sampled(logits, seed=None) != sampled(logits, seed=None)


def test_bias_and_least_tokens_decide_what_can_be_said():
    logits = torch.zeros(50)
    assert set(sampled(logits, logit_bias={4: 100.0})) == {4}
    ended = sampled(logits, logit_bias={2: 100.0, 5: 50.0}, min_tokens=3, temperature=0)
    assert ended[:4] == [5, 5, 5, 2]


def test_log_probabilities_are_those_before_anything_is_adjusted():
    logits = torch.zeros(4)
    parameters = SamplingParameters(max_tokens=1, temperature=0, logit_bias={3: 9.0}, logprobs=1)
    token_id, logprobs = Sampler(parameters, (), frozenset()).sample(logits)
    assert token_id == 3
    assert logprobs is not None
    assert logprobs.logprob == pytest.approx(math.log(1 / 4))
    assert logprobs.alternatives[0][0] == 0


@pytest.mark.parametrize("penalty", [5e-324, 1e-30, 1e30])
def test_a_penalty_beyond_all_measure_makes_no_infinity(penalty):
    parameters = SamplingParameters(max_tokens=1, temperature=0, repetition_penalty=penalty)
    sampler = Sampler(parameters, (0, 1, 2), frozenset())
    token_id, _ = sampler.sample(torch.tensor([0.0, 2.0, -3.0, 1.0]))
    assert token_id in range(4)
