"""Chooses the next token of one sequence from its logits."""

import math
from collections import Counter
from collections.abc import Iterable

import torch
from torch import Tensor

from modelserver_runtime.backends.base import SamplingParameters, TokenLogprobs
from modelserver_runtime.backends.grammar import Constraint


class InvalidLogits(ValueError):
    """The model computed what is no number."""


class Sampler:
    """One sequence's sampling: its parameters, its random generator, its own tokens so far."""

    def __init__(
        self,
        parameters: SamplingParameters,
        prompt_token_ids: Iterable[int],
        end_token_ids: frozenset[int],
        device: torch.device,
        constraint: Constraint | None = None,
    ) -> None:
        self._parameters = parameters
        self._constraint = constraint
        self._seen = set(prompt_token_ids) if parameters.repetition_penalty != 1 else set[int]()
        self._forbidden_early = sorted(end_token_ids | parameters.stop_token_ids)
        self._generated: Counter[int] = Counter()
        self._generator = torch.Generator(device)
        if parameters.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(parameters.seed % 2**63)

    def sample(self, logits: Tensor) -> tuple[int, TokenLogprobs | None]:
        """The next token from float32 logits of shape [vocabulary], which may be changed."""
        wanted = self._parameters.logprobs
        logprobs = torch.log_softmax(logits, dim=-1) if wanted is not None else None
        token_id = self._choose(self._adjusted(logits))
        self._generated[token_id] += 1
        if self._constraint is not None:
            self._constraint.advance(token_id)
        if logprobs is None or wanted is None:
            return token_id, None
        return token_id, top_logprobs(logprobs, token_id, wanted)

    def _choose(self, logits: Tensor) -> int:
        if self._parameters.temperature == 0:
            token_id = int(logits.argmax())
            # argmax takes the first NaN for the largest number.
            _require_number(float(logits[token_id]))
            return token_id
        probabilities = torch.softmax(
            self._truncated(logits / self._parameters.temperature), dim=-1
        )
        # One NaN or infinity makes all of them NaN, and multinomial can break a GPU's context.
        _require_number(float(probabilities[0]))
        return int(torch.multinomial(probabilities, 1, generator=self._generator))

    def _adjusted(self, logits: Tensor) -> Tensor:
        parameters = self._parameters
        if parameters.repetition_penalty != 1:
            self._penalise_repetition(logits)
        if self._generated and (parameters.presence_penalty or parameters.frequency_penalty):
            self._penalise_presence(logits)
        for token_id, bias in parameters.logit_bias.items():
            logits[token_id] += bias
        if self._generated.total() < parameters.min_tokens:
            logits[self._forbidden_early] = -torch.inf
        return logits if self._constraint is None else self._constraint.restrict(logits)

    def _penalise_repetition(self, logits: Tensor) -> None:
        indices = torch.tensor(sorted(self._seen | self._generated.keys()), device=logits.device)
        seen = logits[indices]
        penalty = self._parameters.repetition_penalty
        logits[indices] = torch.where(seen < 0, seen * penalty, seen / penalty)

    def _penalise_presence(self, logits: Tensor) -> None:
        indices = torch.tensor(list(self._generated), device=logits.device)
        counts = torch.tensor(list(self._generated.values()), device=logits.device)
        parameters = self._parameters
        logits[indices] -= parameters.presence_penalty + parameters.frequency_penalty * counts

    def _truncated(self, logits: Tensor) -> Tensor:
        parameters = self._parameters
        if 0 < parameters.top_k < logits.shape[-1]:
            smallest = torch.topk(logits, parameters.top_k).values[-1]
            logits = logits.masked_fill(logits < smallest, -torch.inf)
        if parameters.top_p < 1:
            logits = _nucleus(logits, parameters.top_p)
        if parameters.min_p > 0:
            probabilities = torch.softmax(logits, dim=-1)
            logits = logits.masked_fill(
                probabilities < parameters.min_p * probabilities.max(), -torch.inf
            )
        return logits


def _require_number(value: float) -> None:
    if not math.isfinite(value):
        raise InvalidLogits("it computed something that is no number; the weights may be damaged")


def _nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Keeps each token for which the likelier ones sum to less than `top_p`."""
    probabilities, order = torch.softmax(logits, dim=-1).sort(descending=True)
    excluded = probabilities.cumsum(-1) - probabilities >= top_p
    excluded[0] = False
    return logits.masked_fill(
        excluded.new_zeros(logits.shape).scatter(0, order, excluded), -torch.inf
    )


def top_logprobs(logprobs: Tensor, token_id: int, count: int) -> TokenLogprobs:
    values, indices = torch.topk(logprobs, min(count, logprobs.shape[-1]))
    return TokenLogprobs(
        token_id=token_id,
        logprob=float(logprobs[token_id]),
        alternatives=tuple(zip(indices.tolist(), values.tolist(), strict=True)),
    )
