"""What an answer is made of, as it is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallBegun:
    """`index` counts the calls of the answer."""

    index: int
    call_id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallArguments:
    """More of the JSON of a call's arguments."""

    index: int
    text: str


type Piece = Text | Reasoning | CallBegun | CallArguments


class AnswerReader(Protocol):
    """Reads one answer; text goes in as it is generated."""

    def feed(self, text: str) -> Sequence[Piece]: ...

    def finish(self) -> Sequence[Piece]:
        """What was held back."""
        ...


class PlainReader:
    """For answers that are nothing but text."""

    def feed(self, text: str) -> Sequence[Piece]:
        return (Text(text),) if text else ()

    def finish(self) -> Sequence[Piece]:
        return ()
