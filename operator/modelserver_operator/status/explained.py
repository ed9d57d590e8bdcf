"""Words of the API that explain themselves."""

from enum import StrEnum
from typing import Self


class Explained(StrEnum):
    """A word that users and alerts rely on, with the sentence that says what it means."""

    sentence: str

    def __new__(cls, word: str, sentence: str) -> Self:
        member = str.__new__(cls, word)
        member._value_ = word
        member.sentence = sentence
        return member
