"""Guesses how an answer goes on, from what its client expects and from what was said already; pure.

A guess costs nothing but the rows in which it is computed, and changes no answer: it is compared
with what the model says. So it need not be good, but it has to know how good it is.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

# Tokens that must have been said before in the same order, the most telling first.
_LENGTHS = (4, 3, 2)
# Of a long prompt the last tokens are looked through: an index of more takes megabytes.
_WINDOW = 8192
# What was guessed so many tokens ago counts half: the parts of an answer differ.
_HALF_LIFE = 8
_KEPT = 0.5 ** (1 / _HALF_LIFE)


class Repetition:
    """Finds where the last tokens of a text have been said before."""

    def __init__(self, token_ids: Sequence[int]) -> None:
        """`token_ids` are those of the text, and only ever grow."""
        self._text = token_ids
        self._following: dict[int, dict[tuple[int, ...], int]] = {each: {} for each in _LENGTHS}
        self._indexed = max(0, len(token_ids) - _WINDOW)

    def guess(self, most: int) -> list[int]:
        """What followed the longest of them, where they were said for the last time before."""
        self._index()
        text = self._text
        for length, following in self._following.items():
            at = following.get(tuple(text[-length:]))
            if at is not None:
                return _repeated(text[at : at + most], most)
        return []

    def _index(self) -> None:
        text, begin = self._text, self._indexed
        for length, following in self._following.items():
            for at in range(max(begin, length), len(text)):
                following[tuple(text[at - length : at])] = at
        self._indexed = len(text)


def _repeated(token_ids: Sequence[int], most: int) -> list[int]:
    """What reaches the end of a text goes on as it began: the text is going in circles."""
    times = -(-most // len(token_ids))
    return (list(token_ids) * times)[:most]


class Prediction:
    """Follows an answer through the text that its client expects."""

    def __init__(self, token_ids: Sequence[int]) -> None:
        self._expected = token_ids
        self._after: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for at in range(2, len(token_ids)):
            self._after[token_ids[at - 2], token_ids[at - 1]].append(at)
        self._at: int = 0
        self._is_lost = False
        self._last = -1

    def guess(self, most: int) -> list[int]:
        return [] if self._is_lost else list(self._expected[self._at : self._at + most])

    def note(self, token_id: int) -> None:
        """The next token of the answer. Where it differs, two tokens in order lead back."""
        if not self._is_lost and self._expected[self._at : self._at + 1] == (token_id,):
            self._at += 1
        else:
            self._search(token_id)
        self._last = token_id

    def _search(self, token_id: int) -> None:
        """Further on rather than before: answers change less of the order than of the words.

        Never where it was: what comes there has just not been said.
        """
        places = self._after.get((self._last, token_id), [])
        self._is_lost = not places
        if places:
            index = bisect_left(places, self._at + 1)
            self._at = places[index] if index < len(places) else places[0]


@dataclass(slots=True)
class Record:
    """How often guesses were right lately; it begins with some that were not made."""

    right: float
    made: float = 2.0

    @property
    def chance(self) -> float:
        return self.right / self.made

    def note(self, guessed: Sequence[int], said: Sequence[int]) -> None:
        """Up to the first wrong one, whether they were computed or not."""
        for guess, token_id in zip(guessed, said, strict=False):
            self.right = _KEPT * self.right + (guess == token_id)
            self.made = _KEPT * self.made + 1
            if guess != token_id:
                return


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """`chance` is that of each token to be right if those before it are."""

    token_ids: list[int]
    chance: float
    is_prediction: bool


_NO_GUESS = Guess(token_ids=[], chance=0.0, is_prediction=False)


@dataclass(slots=True, kw_only=True)
class Guesser:
    """Of one answer. What clients expect is believed at first, repetitions hardly."""

    repetition: Repetition
    prediction: Prediction | None = None
    last: Guess = _NO_GUESS
    _of_prediction: Record = field(default_factory=lambda: Record(1.8))
    _of_repetition: Record = field(default_factory=lambda: Record(0.6))

    def guess(self, most: int) -> Guess:
        """Up to `most` tokens, which may be none, or less."""
        if most <= 0:
            self.last = _NO_GUESS
        elif self.prediction and (expected := self.prediction.guess(most)):
            self.last = Guess(
                token_ids=expected, chance=self._of_prediction.chance, is_prediction=True
            )
        else:
            self.last = Guess(
                token_ids=self.repetition.guess(most),
                chance=self._of_repetition.chance,
                is_prediction=False,
            )
        return self.last

    def note(self, said: Sequence[int]) -> None:
        """Tokens of the answer, also those that nothing was guessed of."""
        record = self._of_prediction if self.last.is_prediction else self._of_repetition
        record.note(self.last.token_ids, said)
        self.last = _NO_GUESS
        if self.prediction:
            for token_id in said:
                self.prediction.note(token_id)


def guesser_of(token_ids: list[int], prediction: tuple[int, ...]) -> Guesser:
    """`token_ids` are those of prompt and answer, and will be added to."""
    return Guesser(
        repetition=Repetition(token_ids),
        prediction=Prediction(prediction) if prediction else None,
    )
