"""What is asked: texts of mixed lengths, the same for every engine; pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from bench.serving import words

PROMPT_TOKENS = (16, 512)
OUTPUT_TOKENS = (32, 128)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request. `at_seconds` after the begin of the measurement, where arrivals are planned."""

    message: str
    prompt_tokens: int
    output_tokens: int
    at_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Smallest and largest number of tokens; each in between is as likely."""

    prompt: tuple[int, int] = PROMPT_TOKENS
    output: tuple[int, int] = OUTPUT_TOKENS


def questions(count: int, *, seed: int, lengths: Lengths) -> list[Question]:
    """All different."""
    chance = Random(seed)
    return [_question(chance, lengths, at_seconds=0.0) for _ in range(count)]


def arriving(count: int, *, rate: float, seed: int, lengths: Lengths) -> list[Question]:
    """As a Poisson process of `rate` requests a second brings them, the first one at once."""
    chance = Random(seed)
    at, found = 0.0, []
    for _ in range(count):
        found.append(_question(chance, lengths, at_seconds=at))
        at += chance.expovariate(rate)
    return found


def _question(chance: Random, lengths: Lengths, *, at_seconds: float) -> Question:
    prompt = chance.randint(*lengths.prompt)
    return Question(
        message=text(chance, prompt - words.CHAT_TOKENS),
        prompt_tokens=prompt,
        output_tokens=chance.randint(*lengths.output),
        at_seconds=at_seconds,
    )


def text(chance: Random, tokens: int) -> str:
    """Random words, one token each."""
    vocabulary = words.vocabulary()[len(words.SPECIAL_TOKENS) :]
    return " ".join(chance.choices(vocabulary, k=tokens))


def total_tokens(asked: Sequence[Question]) -> tuple[int, int]:
    """Of the prompts, and of the answers."""
    return sum(it.prompt_tokens for it in asked), sum(it.output_tokens for it in asked)
