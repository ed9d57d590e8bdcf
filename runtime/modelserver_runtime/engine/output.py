"""Turns the tokens of one sequence into what its client sees."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from modelserver_runtime.backends.base import (
    SamplingParameters,
    Tokenizer,
    TokenLogprobs,
    TokenOutput,
)
from modelserver_runtime.engine.stop import StopMatcher


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRules:
    """How tokens become text; `context` are the last tokens before the answer."""

    stop_strings: tuple[str, ...] = ()
    skip_special_tokens: bool = True
    context: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedToken:
    """`offset` is where the token's text begins in the answer."""

    token_id: int
    offset: int
    logprobs: TokenLogprobs


@dataclass(slots=True, kw_only=True)  # not frozen: see backends.base.Work
class Delta:
    """What is new since the last delta of the sequence.

    `completion_tokens` counts all tokens so far, an end token included. `tokens` is empty unless
    log probabilities were asked for. `cached_tokens` of the first delta are those of the prompt
    that were not computed for this request. What became of the client's prediction is counted
    from delta to delta: tokens of it that are in the answer, and that were computed in vain.
    """

    text: str
    completion_tokens: int
    tokens: tuple[GeneratedToken, ...] = ()
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    finish_reason: FinishReason | None = None
    cached_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


def joined(deltas: Sequence[Delta]) -> Delta:
    """Deltas of one sequence that follow each other, as one."""
    if len(deltas) == 1:
        return deltas[0]
    return Delta(
        text="".join(delta.text for delta in deltas),
        completion_tokens=deltas[-1].completion_tokens,
        tokens=tuple(token for delta in deltas for token in delta.tokens),
        prompt_logprobs=tuple(entry for delta in deltas for entry in delta.prompt_logprobs),
        finish_reason=deltas[-1].finish_reason,
        cached_tokens=sum(delta.cached_tokens for delta in deltas),
        accepted_prediction_tokens=sum(delta.accepted_prediction_tokens for delta in deltas),
        rejected_prediction_tokens=sum(delta.rejected_prediction_tokens for delta in deltas),
    )


class OutputAssembler:
    def __init__(
        self,
        tokenizer: Tokenizer,
        sampling: SamplingParameters,
        rules: TextRules,
        end_token_ids: frozenset[int],
    ) -> None:
        self._sampling = sampling
        ends = frozenset[int]() if sampling.ignore_end else end_token_ids
        self._end_token_ids = ends | sampling.stop_token_ids
        self._stream = tokenizer.text_stream(
            context=rules.context, skip_special_tokens=rules.skip_special_tokens
        )
        self._matcher = StopMatcher(rules.stop_strings)
        self._held: list[GeneratedToken] = []
        self._count = 0
        self._decoded = 0  # characters that came from the tokenizer
        self._released = 0  # characters that went to the client

    def push(self, output: TokenOutput) -> Delta:
        """Takes an output with a token; the sequence is over when the delta has a finish reason."""
        token_id = output.token_id
        if token_id is None or self._sampling.max_tokens == 0:
            return self._delta("", FinishReason.LENGTH, output)
        self._count += 1
        if token_id in self._end_token_ids:
            return self._finish("", FinishReason.STOP, output)
        if output.logprobs:
            self._hold(token_id, output.logprobs)
        piece = self._stream.step(token_id)
        if self._count >= self._sampling.max_tokens:
            return self._finish(piece, FinishReason.LENGTH, output)
        text, stopped = self._match(piece)
        return self._delta(text, FinishReason.STOP if stopped else None, output)

    def _hold(self, token_id: int, logprobs: TokenLogprobs) -> None:
        self._held.append(
            GeneratedToken(token_id=token_id, offset=self._decoded, logprobs=logprobs)
        )

    def _match(self, piece: str) -> tuple[str, bool]:
        self._decoded += len(piece)
        return self._matcher.push(piece)

    def _finish(self, piece: str, reason: FinishReason, output: TokenOutput) -> Delta:
        """Gives out everything that was held back, unless it holds a stop string."""
        text, stopped = self._match(piece + self._stream.flush())
        if stopped:
            return self._delta(text, FinishReason.STOP, output)
        return self._delta(text + self._matcher.flush(), reason, output)

    def _delta(self, text: str, reason: FinishReason | None, output: TokenOutput) -> Delta:
        self._released += len(text)
        guess = output.guess if output.guess and output.guess.is_prediction else None
        return Delta(
            text=text,
            completion_tokens=self._count,
            tokens=self._release_tokens(is_last=reason is not None),
            prompt_logprobs=output.prompt_logprobs,
            finish_reason=reason,
            cached_tokens=output.cached_tokens,
            accepted_prediction_tokens=int(guess.is_right) if guess else 0,
            rejected_prediction_tokens=guess.wrong if guess else 0,
        )

    def _release_tokens(self, *, is_last: bool) -> tuple[GeneratedToken, ...]:
        """Tokens whose text has begun to be given out; those of a stop string never are."""
        if not self._held:
            return ()
        whole = is_last and self._released == self._decoded
        ready = tuple(token for token in self._held if whole or token.offset < self._released)
        del self._held[: len(ready)]
        return ready
