"""Questions whose answers are known, and differ: so that an answer says whose it is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

# Batches are padded differently each time, which changes the last bits of a float32.
_TOLERANCE = 2e-5
# Answers that are nearer to each other than this could be taken for one another.
_LEAST_DISTANCE = 10 * _TOLERANCE

type Vector = tuple[float, ...]
type Mark = str | Vector


class Verdict(StrEnum):
    RIGHT = "right"
    SWAPPED = "swapped"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """`read` finds in a whole answer what tells it from others."""

    route: str
    body: Mapping[str, Any]
    read: Callable[[Any], Mark]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    question: Question
    mark: Mark


class Pool:
    """Questions of one kind; no two of them have the same answer."""

    def __init__(self) -> None:
        self.known: list[Known] = []

    def add(self, question: Question, mark: Mark) -> bool:
        """False if the answer is too much like another one's."""
        if any(not _differ(mark, other.mark) for other in self.known):
            return False
        self.known.append(Known(question=question, mark=mark))
        return True

    def judge(self, mine: Known, answer: Mark) -> Verdict:
        if _same(answer, mine.mark):
            return Verdict.RIGHT
        is_others = any(_same(answer, other.mark) for other in self.known)
        return Verdict.SWAPPED if is_others else Verdict.WRONG


def _same(one: Mark, other: Mark) -> bool:
    return one == other if isinstance(one, str) else _distance(one, other) <= _TOLERANCE


def _differ(one: Mark, other: Mark) -> bool:
    return one != other if isinstance(one, str) else _distance(one, other) > _LEAST_DISTANCE


def _distance(one: Mark, other: Mark) -> float:
    """The largest difference; vectors of different lengths are as far away as can be."""
    if len(one) != len(other) or isinstance(one, str) or isinstance(other, str):
        return float("inf")
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def text_of_chat(answer: Any) -> str:
    return str(answer["choices"][0]["message"]["content"])


def text_of_completion(answer: Any) -> str:
    return str(answer["choices"][0]["text"])


def vector_of_embedding(answer: Any) -> Vector:
    return tuple(answer["data"][0]["embedding"])


def scores_of_prediction(answer: Any) -> Vector:
    return scores(answer["output"])


def scores(labels: Sequence[Mapping[str, Any]]) -> Vector:
    """In the order of the labels' names; answers have them by score."""
    return tuple(entry["score"] for entry in sorted(labels, key=lambda entry: entry["label"]))
