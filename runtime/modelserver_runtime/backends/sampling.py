"""Chooses the next token of one sequence from its logits.

Each sequence is sampled by itself, with a random generator of its own: it gets the same tokens
whoever is answered beside it. One call for all of them would not be faster: what a vocabulary takes
is ten times what calling numpy takes, and one row fits a core's cache where a matrix does not.
"""

import math
import random
from collections.abc import Iterable

import numpy as np
from torch import Tensor

from modelserver_runtime.backends.base import SamplingParameters, TokenLogprobs
from modelserver_runtime.backends.distribution import (
    Logits,
    draw,
    likeliest_tokens,
    weights_of,
)
from modelserver_runtime.backends.grammar import Constraint
from modelserver_runtime.backends.penalties import Penalties


class InvalidLogits(ValueError):
    """The model computed what is no number."""


class Sampler:
    """One sequence's sampling: its parameters, its random generator, its own tokens so far."""

    def __init__(
        self,
        parameters: SamplingParameters,
        prompt_token_ids: Iterable[int],
        end_token_ids: frozenset[int],
        constraint: Constraint | None = None,
    ) -> None:
        self._parameters = parameters
        self._constraint = constraint
        self._forbidden_early = sorted(end_token_ids | parameters.stop_token_ids)
        self._biased = np.array(list(parameters.logit_bias), np.intp)
        self._biases = np.array(list(parameters.logit_bias.values()), np.float32)
        self._penalties: Penalties | None = None
        if Penalties.are_wanted(parameters):
            self._penalties = Penalties(parameters, prompt_token_ids)
        self._sampled = 0
        # One number of it is taken for each token; without a seed it begins anywhere.
        self._random = random.Random(parameters.seed)  # noqa: S311  nothing is to be kept secret

    def sample(self, logits: Tensor) -> tuple[int, TokenLogprobs | None]:
        """The next token from float32 logits of shape [vocabulary], which may be changed."""
        row: Logits = logits.numpy(force=True)
        wanted = self._parameters.logprobs
        own = row.copy() if wanted is not None and self._changes_logits else row
        self._adjust(row)
        token_id = self._choose(row)
        self._note(token_id)
        return token_id, None if wanted is None else top_logprobs(own, token_id, wanted)

    @property
    def _changes_logits(self) -> bool:
        return (
            self._constraint is not None
            or self._penalties is not None
            or self._biased.size > 0
            or self._sampled < self._parameters.min_tokens
        )

    def _adjust(self, logits: Logits) -> None:
        if self._penalties is not None:
            self._penalties.apply(logits)
        if self._biased.size:
            logits[self._biased] += self._biases
        if self._sampled < self._parameters.min_tokens:
            logits[self._forbidden_early] = -np.inf
        if self._constraint is not None:
            self._constraint.restrict(logits)

    def _choose(self, logits: Logits) -> int:
        parameters = self._parameters
        likeliest = int(logits.argmax())
        # The first NaN counts as the largest number.
        if not math.isfinite(logits[likeliest]):
            raise InvalidLogits(
                "it computed something that is no number; the weights may be damaged"
            )
        if parameters.temperature == 0:
            return likeliest
        return draw(
            weights_of(logits, parameters.temperature),
            self._random.random(),
            top_k=parameters.top_k,
            top_p=parameters.top_p,
            min_p=parameters.min_p,
        )

    def _note(self, token_id: int) -> None:
        self._sampled += 1
        if self._penalties is not None:
            self._penalties.note(token_id)
        if self._constraint is not None:
            self._constraint.advance(token_id)


def top_logprobs(logits: Logits, token_id: int, count: int) -> TokenLogprobs:
    """Of a token and of the `count` likeliest ones."""
    likeliest, total = likeliest_tokens(logits, count)
    alternatives = zip(likeliest.tolist(), logits[likeliest].tolist(), strict=True)
    return TokenLogprobs(
        token_id=token_id,
        logprob=float(logits[token_id]) - total,
        alternatives=tuple((other, value - total) for other, value in alternatives),
    )
