"""Whole answers from deltas, for clients that do not stream."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from modelserver_runtime.backends.base import TokenLogprobs
from modelserver_runtime.engine.answering import Generator
from modelserver_runtime.engine.output import Delta, FinishReason, GeneratedToken
from modelserver_runtime.engine.request import GenerationRequest, Ticket
from modelserver_runtime.rest.schemas.generation import Usage


@dataclass(slots=True, kw_only=True)
class Collected:
    text: str = ""
    completion_tokens: int = 0
    tokens: list[GeneratedToken] = field(default_factory=list)
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    finish_reason: FinishReason = FinishReason.LENGTH

    def add(self, delta: Delta) -> None:
        self.text += delta.text
        self.tokens.extend(delta.tokens)
        self.completion_tokens = delta.completion_tokens
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


def usage_of(prompt_tokens: int, completion_tokens: int) -> Usage:
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
    )


class UsageCounter:
    """Counts the tokens of a streamed answer, whose deltas carry sums per choice."""

    def __init__(self, prompt_tokens: int) -> None:
        self._prompt_tokens = prompt_tokens
        self._completion_tokens: dict[int, int] = {}

    def note(self, index: int, delta: Delta) -> None:
        self._completion_tokens[index] = delta.completion_tokens

    @property
    def usage(self) -> Usage:
        return usage_of(self._prompt_tokens, sum(self._completion_tokens.values()))
