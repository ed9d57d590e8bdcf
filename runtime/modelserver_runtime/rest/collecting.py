"""Whole answers from deltas, for clients that do not stream."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import batched

from modelserver_runtime.backends.base import TokenLogprobs
from modelserver_runtime.engine.answering import Generator
from modelserver_runtime.engine.output import Delta, FinishReason, GeneratedToken
from modelserver_runtime.engine.request import GenerationRequest, Ticket
from modelserver_runtime.rest.schemas.generation import (
    CompletionTokensDetails,
    PromptTokensDetails,
    Usage,
)


@dataclass(slots=True, kw_only=True)
class Collected:
    text: str = ""
    completion_tokens: int = 0
    cached_tokens: int = 0
    tokens: list[GeneratedToken] = field(default_factory=list)
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    finish_reason: FinishReason = FinishReason.LENGTH

    def add(self, delta: Delta) -> None:
        self.text += delta.text
        self.tokens.extend(delta.tokens)
        self.completion_tokens = delta.completion_tokens
        self.cached_tokens += delta.cached_tokens
        self.prompt_logprobs = delta.prompt_logprobs or self.prompt_logprobs
        self.finish_reason = delta.finish_reason or self.finish_reason


async def collect(
    engine: Generator, requests: Sequence[GenerationRequest], ticket: Ticket
) -> list[Collected]:
    answers = [Collected() for _ in requests]
    async with engine.open(requests, ticket) as deltas:
        async for index, delta in deltas:
            answers[index].add(delta)
    return answers


def cached_prompt_tokens(of_answers: Iterable[int], tries: int) -> int:
    """Of all prompts, each of which has `tries` answers: one that was computed, was not cached."""
    return sum(min(of_prompt) for of_prompt in batched(of_answers, tries))


def usage_of(
    prompt_tokens: int,
    completion_tokens: int,
    cached_tokens: int = 0,
    *,
    accepted: int = 0,
    rejected: int = 0,
) -> Usage:
    """`accepted` and `rejected` are tokens of a prediction."""
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=cached_tokens),
        completion_tokens_details=CompletionTokensDetails(
            accepted_prediction_tokens=accepted, rejected_prediction_tokens=rejected
        ),
    )


class UsageCounter:
    """Counts the tokens of a streamed answer, whose deltas carry sums per choice.

    Each prompt has `tries` choices, one after the other.
    """

    def __init__(self, prompt_tokens: int, *, choices: int, tries: int) -> None:
        self._prompt_tokens = prompt_tokens
        self._tries = tries
        self._completion_tokens = [0] * choices
        self._cached_tokens = [0] * choices
        self._accepted = self._rejected = 0

    def note(self, index: int, delta: Delta) -> None:
        self._completion_tokens[index] = delta.completion_tokens
        self._cached_tokens[index] += delta.cached_tokens
        self._accepted += delta.accepted_prediction_tokens
        self._rejected += delta.rejected_prediction_tokens

    @property
    def usage(self) -> Usage:
        cached_tokens = cached_prompt_tokens(self._cached_tokens, self._tries)
        return usage_of(
            self._prompt_tokens,
            sum(self._completion_tokens),
            cached_tokens,
            accepted=self._accepted,
            rejected=self._rejected,
        )
