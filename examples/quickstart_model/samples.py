"""Conversations as tokens: of each, the answers are what is learnt."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from quickstart_model.corpus import Exchange
from quickstart_model.phrasing import noisy

_SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a friendly assistant. Answer briefly.",
    "Answer in one sentence.",
    "You are ModelServer's example model.",
)
_WITH_SYSTEM_PROMPT = 0.15
_WITH_EARLIER_TURN = 0.15
# Sorting by length within a few batches saves most of the padding, and keeps batches mixed.
_SORTED_BATCHES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """`is_answer` marks the tokens that the model has to produce."""

    tokens: tuple[int, ...]
    is_answer: tuple[bool, ...]


# How often a kind of question comes in each round. Facts that look alike (days, months, counting),
# and talk, where no wording is like the other, need more views than patterns with a noun.
_VIEWS = {
    "talk": 4.0,
    "day": 3.0,
    "month": 3.0,
    "count": 3.0,
    "opposite": 1.2,
    "sum": 0.7,
    "difference": 1.2,
    "unknown": 0.5,
}


class SampleMaker:
    def __init__(self, tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> None:
        # Much faster than the class around it, which also does what is not needed here.
        self._tokenizer = tokenizer.backend_tokenizer
        self._rng = rng

    def batches(self, exchanges: Sequence[Exchange], size: int) -> Iterator[list[Sample]]:
        """Without end; every round in another order and with other noise."""
        pool: list[Sample] = []
        while True:
            for exchange in self._round(exchanges):
                pool.append(self._sample(exchange, exchanges))
                if len(pool) == size * _SORTED_BATCHES:
                    yield from self._split(pool, size)
                    pool = []

    def _round(self, exchanges: Sequence[Exchange]) -> list[Exchange]:
        chosen = [
            exchange
            for exchange in exchanges
            for _ in range(math.floor(_VIEWS.get(exchange.kind, 1.0) + self._rng.random()))
        ]
        self._rng.shuffle(chosen)
        return chosen

    def _split(self, pool: list[Sample], size: int) -> list[list[Sample]]:
        pool.sort(key=lambda sample: len(sample.tokens))
        batches = [pool[start : start + size] for start in range(0, len(pool), size)]
        self._rng.shuffle(batches)
        return batches

    def _sample(self, exchange: Exchange, exchanges: Sequence[Exchange]) -> Sample:
        parts: list[tuple[str, bool]] = []
        if self._rng.random() < _WITH_SYSTEM_PROMPT:
            parts.append((f"<|system|>{self._rng.choice(_SYSTEM_PROMPTS)}<|end|>", False))
        if self._rng.random() < _WITH_EARLIER_TURN:
            parts += self._turn(self._rng.choice(exchanges))
        parts += self._turn(exchange)
        tokens: list[int] = []
        is_answer: list[bool] = []
        for text, is_learnt in parts:
            encoded = self._tokenizer.encode(text).ids
            tokens += encoded
            is_answer += [is_learnt] * len(encoded)
        return Sample(tokens=tuple(tokens), is_answer=tuple(is_answer))

    def _turn(self, exchange: Exchange) -> list[tuple[str, bool]]:
        question = noisy(exchange.question, self._rng)
        return [
            (f"<|user|>{question}<|end|><|assistant|>", False),
            (f"{exchange.answer}<|end|>", True),
        ]
