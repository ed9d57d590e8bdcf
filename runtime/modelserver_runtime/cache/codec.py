"""Answers as bytes, for other processes, and their size in this one."""

import math
import sys
from collections.abc import Sequence
from typing import Any, Protocol

import orjson

from modelserver_runtime.backends.base import TokenLogprobs
from modelserver_runtime.engine.output import Delta, FinishReason, GeneratedToken

# What CPython takes for these objects with their numbers, as tracemalloc counts it; texts are
# counted beside them.
_DELTA_BYTES = 130
_TOKEN_BYTES = 310
_ALTERNATIVE_BYTES = 120


class Codec[Chunk](Protocol):
    def may_store(self, chunks: Sequence[Chunk]) -> bool:
        """Whether the answer can be kept at all."""
        ...

    def size_of(self, chunks: Sequence[Chunk]) -> int:
        """Bytes of memory that the answer takes, about."""
        ...

    def encode(self, chunks: Sequence[Chunk]) -> bytes: ...

    def decode(self, content: bytes) -> tuple[Chunk, ...]:
        """Raises ValueError, TypeError or LookupError for what `encode` has not written."""
        ...


class DeltaCodec:
    """Columns instead of objects: an answer of many deltas is read several times as fast."""

    def may_store(self, chunks: Sequence[Delta]) -> bool:
        return bool(chunks)

    def size_of(self, chunks: Sequence[Delta]) -> int:
        return sum(_size_of_delta(delta) for delta in chunks)

    def encode(self, chunks: Sequence[Delta]) -> bytes:
        return orjson.dumps(
            {
                "texts": [delta.text for delta in chunks],
                "counts": [delta.completion_tokens for delta in chunks],
                "tokens": [[_token(token) for token in delta.tokens] for delta in chunks],
                "prompt": [[_entry(entry) for entry in delta.prompt_logprobs] for delta in chunks],
                "cached": [delta.cached_tokens for delta in chunks],
                "finish": [delta.finish_reason for delta in chunks],
            }
        )

    def decode(self, content: bytes) -> tuple[Delta, ...]:
        columns = orjson.loads(content)
        names = ("texts", "counts", "tokens", "prompt", "cached", "finish")
        rows = zip(*(columns[name] for name in names), strict=True)
        deltas = tuple(_delta(*row) for row in rows)
        if not deltas or deltas[-1].finish_reason is None:
            raise ValueError("an answer without its end")
        return deltas


def _size_of_delta(delta: Delta) -> int:
    entries = (*(token.logprobs for token in delta.tokens), *delta.prompt_logprobs)
    alternatives = sum(len(entry.alternatives) for entry in entries)
    text = sys.getsizeof(delta.text)
    return _DELTA_BYTES + text + _TOKEN_BYTES * len(entries) + _ALTERNATIVE_BYTES * alternatives


def _delta(
    text: str, count: int, tokens: list[Any], prompt: list[Any], cached: int, finish: str | None
) -> Delta:
    return Delta(
        text=text,
        completion_tokens=count,
        tokens=tuple(map(_read_token, tokens)),
        prompt_logprobs=tuple(map(_read_entry, prompt)),
        cached_tokens=cached,
        finish_reason=None if finish is None else FinishReason(finish),
    )


def _token(token: GeneratedToken) -> list[Any]:
    return [token.token_id, token.offset, _entry(token.logprobs)]


def _read_token(row: list[Any]) -> GeneratedToken:
    token_id, offset, entry = row
    return GeneratedToken(token_id=token_id, offset=offset, logprobs=_read_entry(entry))


def _entry(entry: TokenLogprobs) -> list[Any]:
    return [entry.token_id, entry.logprob, entry.alternatives]


def _read_entry(row: list[Any]) -> TokenLogprobs:
    token_id, logprob, alternatives = row
    return TokenLogprobs(
        token_id=token_id,
        logprob=_read_logprob(logprob),
        alternatives=tuple((other, _read_logprob(value)) for other, value in alternatives),
    )


def _read_logprob(value: float | None) -> float:
    """JSON has no infinity; a token that is ruled out comes back as null."""
    return -math.inf if value is None else float(value)
