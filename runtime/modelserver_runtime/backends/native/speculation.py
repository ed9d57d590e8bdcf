"""Decides how much of the guessed is computed: as much as makes a step bring more a second; pure.

A row more makes a step longer, by what was measured, and brings a token if it and all guesses
before it are right. While few rows are computed, reading the weights takes most of the time, and a
row costs a seventh of a step or so; with many sequences it costs what it brings at the best.
"""

import heapq
from collections.abc import Sequence
from dataclasses import replace

from modelserver_runtime.backends.native.guessing import Guess, Guesser

# From here on rows cost in proportion, as every guess would have to be right to pay.
MOST_ROWS = 16
# What a row costs, in steps of one row, before anything was measured: 125 million parameters, two
# cores.
_FIRST_SHARE = 0.15
# Measurements err, above all when others use the processor too.
_LEAST_SHARE, _LARGEST_SHARE = 0.03, 1.0
# A measurement loses half its weight within 35 others.
_KEPT = 0.98
# How many measurements the first guess is worth.
_FIRST_WEIGHT = 4.0


class Speculator:
    """Of one model; `most` are the tokens of one sequence that a step computes on a guess."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._cost = RowCost()

    def may_guess(self, rows: int) -> bool:
        """Whether guesses may pay in a step that has so many rows without them."""
        return self.most > 0 and 0 < rows <= MOST_ROWS // 2

    def observe(self, rows: int, seconds: float) -> None:
        if rows <= MOST_ROWS:
            self._cost.observe(rows, seconds)

    def guesses(self, guessers: Sequence[Guesser], most: Sequence[int], rows: int) -> list[Guess]:
        """Of each answer what to compute beside its newest token; of some of them nothing."""
        guesses = [each.guess(count) for each, count in zip(guessers, most, strict=True)]
        counts = depths(guesses, rows, self._cost.share)
        return [
            replace(guess, token_ids=guess.token_ids[:count])
            for guess, count in zip(guesses, counts, strict=True)
        ]


class RowCost:
    """Time of a step = fixed + rows x each, by least squares over the last steps."""

    def __init__(self) -> None:
        self._weight = self._rows = self._squares = self._seconds = self._products = 0.0

    def observe(self, rows: int, seconds: float) -> None:
        if not self._weight:
            self._begin(rows, seconds)
        self._add(rows, seconds, kept=_KEPT)

    def _begin(self, rows: int, seconds: float) -> None:
        """As if steps of few and of many rows had been measured."""
        single = seconds / (1 + _FIRST_SHARE * (rows - 1))
        for count in (1, MOST_ROWS // 2):
            for _ in range(round(_FIRST_WEIGHT / 2)):
                self._add(count, single * (1 + _FIRST_SHARE * (count - 1)), kept=1.0)

    def _add(self, rows: int, seconds: float, *, kept: float) -> None:
        self._weight = kept * self._weight + 1
        self._rows = kept * self._rows + rows
        self._squares = kept * self._squares + rows * rows
        self._seconds = kept * self._seconds + seconds
        self._products = kept * self._products + rows * seconds

    @property
    def share(self) -> float:
        """What a row more costs, in steps of one row."""
        spread = self._weight * self._squares - self._rows**2
        # With steps of one size only, nothing is known about others.
        if spread <= 1e-6 * self._weight * self._squares:
            return _FIRST_SHARE
        each = (self._weight * self._products - self._rows * self._seconds) / spread
        single = (self._seconds - each * self._rows) / self._weight + each
        if single <= 0:
            return _LARGEST_SHARE
        return min(max(each / single, _LEAST_SHARE), _LARGEST_SHARE)


def depths(guesses: Sequence[Guess], rows: int, share: float) -> list[int]:
    """Of each guess, how many tokens to compute in a step that has so many `rows` without them.

    The surest tokens are taken first, while one brings more tokens for its time than the step does.
    """
    taken = [0] * len(guesses)
    tokens, time = float(rows), 1 + share * (rows - 1)
    # Each entry: the chance of the next token of a guess, which must be right up to there.
    heap = [(-guess.chance, index) for index, guess in enumerate(guesses) if guess.token_ids]
    heapq.heapify(heap)
    while heap and rows < MOST_ROWS:
        chance, index = heapq.heappop(heap)
        if -chance * time <= share * tokens:
            break
        tokens, time, rows = tokens - chance, time + share, rows + 1
        taken[index] += 1
        if taken[index] < len(guesses[index].token_ids):
            heapq.heappush(heap, (chance * guesses[index].chance, index))
    return taken
