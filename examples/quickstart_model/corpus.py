"""Questions with their answers, and which wordings are kept from training."""

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from quickstart_model import knowledge as know
from quickstart_model import phrasing as ask

_HELD_OUT_SHARE = 0.15
_LARGEST_SUMMAND = 10
_LAST_COUNTED = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    kind: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Every answer is trained; of its wordings some are held out, to be asked afterwards."""

    training: tuple[Exchange, ...]
    held_out: tuple[Exchange, ...]


def make_corpus(seed: int) -> Corpus:
    rng = random.Random(seed)
    training: list[Exchange] = []
    held_out: list[Exchange] = []
    for kind, wordings, answer in _facts():
        exchanges = [Exchange(kind=kind, question=text, answer=answer) for text in wordings]
        rng.shuffle(exchanges)
        held = round(len(exchanges) * _HELD_OUT_SHARE) if len(exchanges) >= 4 else 0
        held_out += exchanges[:held]
        training += exchanges[held:]
    return Corpus(training=tuple(training), held_out=tuple(held_out))


type Fact = tuple[str, Sequence[str], str]


def _facts() -> Iterator[Fact]:
    for wordings, answer in know.QUESTIONS:
        yield "talk", wordings, answer
    for thing, answer in know.CONCEPTS.items():
        yield "concept", _fill(ask.CONCEPT_PATTERNS, thing), answer
    for thing, colour in know.COLOURS.items():
        answer = f"{thing[0].upper()}{thing[1:]} is {colour}."
        yield "colour", _fill(ask.COLOUR_PATTERNS, thing), answer
    for thing in know.UNKNOWN:
        yield "unknown", _fill(ask.UNKNOWN_PATTERNS, thing), know.UNKNOWN_ANSWER
    yield from _opposites()
    yield from _neighbours("day", know.DAYS)
    yield from _neighbours("month", know.MONTHS)
    yield from _counting()
    yield from _sums()


def _fill(patterns: Iterable[str], *values: str, **names: str) -> list[str]:
    texts = [pattern.format(*values, **names) for pattern in patterns]
    return [text[0].upper() + text[1:] for text in texts]


def _opposites() -> Iterator[Fact]:
    for one, other in know.OPPOSITES:
        for word, opposite in ((one, other), (other, one)):
            answer = f"The opposite of {word} is {opposite}."
            yield "opposite", _fill(ask.OPPOSITE_PATTERNS, word), answer


def _neighbours(kind: str, names: Sequence[str]) -> Iterator[Fact]:
    for index, name in enumerate(names):
        following, previous = names[(index + 1) % len(names)], names[index - 1]
        yield kind, _fill(ask.AFTER_PATTERNS, name, kind=kind), f"After {name} comes {following}."
        yield kind, _fill(ask.BEFORE_PATTERNS, name, kind=kind), f"Before {name} comes {previous}."


def _counting() -> Iterator[Fact]:
    for last in range(2, _LAST_COUNTED + 1):
        answer = ", ".join(know.NUMBERS[1 : last + 1]) + "."
        for written in (know.NUMBERS[last], str(last)):
            yield "count", _fill(ask.COUNT_PATTERNS, written), answer[0].upper() + answer[1:]


def _sums() -> Iterator[Fact]:
    """In words and in digits; the answer is written as the question was."""
    digits = [str(number) for number in range(len(know.NUMBERS))]
    for names, plus, minus in (
        (know.NUMBERS, ask.PLUS_PATTERNS, ask.MINUS_PATTERNS),
        (
            digits,
            ask.PLUS_PATTERNS + ask.PLUS_SIGN_PATTERNS,
            ask.MINUS_PATTERNS + ask.MINUS_SIGN_PATTERNS,
        ),
    ):
        for a, b in itertools.product(range(_LARGEST_SUMMAND + 1), repeat=2):
            total = f"{names[a]} plus {names[b]} is {names[a + b]}."
            yield "sum", _fill(plus, names[a], names[b]), _capital(total)
            if b <= a:
                rest = f"{names[a]} minus {names[b]} is {names[a - b]}."
                yield "difference", _fill(minus, names[a], names[b]), _capital(rest)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
