"""Log probabilities in the shapes of OpenAI's two generating routes."""

from collections.abc import Iterable, Sequence

from modelserver_runtime.backends.base import Tokenizer, TokenLogprobs
from modelserver_runtime.engine.output import GeneratedToken
from modelserver_runtime.rest.schemas.generation import (
    ChatLogprob,
    ChatLogprobs,
    CompletionLogprobs,
    TopLogprob,
)

# JSON has no infinity; a token that is ruled out gets this.
_SMALLEST = -9999.0


def chat_logprobs(tokens: Iterable[GeneratedToken], tokenizer: Tokenizer) -> ChatLogprobs:
    return ChatLogprobs(content=[_chat_logprob(token.logprobs, tokenizer) for token in tokens])


def _chat_logprob(entry: TokenLogprobs, tokenizer: Tokenizer) -> ChatLogprob:
    chosen = _top(entry.token_id, entry.logprob, tokenizer)
    return ChatLogprob(
        token=chosen.token,
        logprob=chosen.logprob,
        bytes=chosen.bytes,
        top_logprobs=[
            _top(token_id, logprob, tokenizer) for token_id, logprob in entry.alternatives
        ],
    )


def _top(token_id: int, logprob: float, tokenizer: Tokenizer) -> TopLogprob:
    return TopLogprob(
        token=tokenizer.token_text(token_id),
        logprob=max(logprob, _SMALLEST),
        bytes=list(tokenizer.token_bytes(token_id)),
    )


def completion_logprobs(
    tokens: Iterable[GeneratedToken], tokenizer: Tokenizer, *, offset: int
) -> CompletionLogprobs:
    """`offset` is where the answer begins in the text that is sent."""
    listed = list(tokens)
    return CompletionLogprobs(
        tokens=[tokenizer.token_text(token.token_id) for token in listed],
        token_logprobs=[max(token.logprobs.logprob, _SMALLEST) for token in listed],
        top_logprobs=[_alternatives(token.logprobs, tokenizer) for token in listed],
        text_offset=[offset + token.offset for token in listed],
    )


def prompt_logprobs(
    prompt_token_ids: Sequence[int],
    entries: Sequence[TokenLogprobs],
    tokenizer: Tokenizer,
) -> CompletionLogprobs:
    """Of the prompt's tokens; the first has no probability, as nothing is before it."""
    texts = [tokenizer.token_text(token_id) for token_id in prompt_token_ids]
    offsets = [sum(map(len, texts[:index])) for index in range(len(texts))]
    return CompletionLogprobs(
        tokens=texts,
        token_logprobs=[None, *(max(entry.logprob, _SMALLEST) for entry in entries)],
        top_logprobs=[None, *(_alternatives(entry, tokenizer) for entry in entries)],
        text_offset=offsets,
    )


def joined(first: CompletionLogprobs, second: CompletionLogprobs) -> CompletionLogprobs:
    return CompletionLogprobs(
        tokens=first.tokens + second.tokens,
        token_logprobs=first.token_logprobs + second.token_logprobs,
        top_logprobs=first.top_logprobs + second.top_logprobs,
        text_offset=first.text_offset + second.text_offset,
    )


def _alternatives(entry: TokenLogprobs, tokenizer: Tokenizer) -> dict[str, float]:
    pairs = [(entry.token_id, entry.logprob), *entry.alternatives]
    return {tokenizer.token_text(token_id): max(logprob, _SMALLEST) for token_id, logprob in pairs}
