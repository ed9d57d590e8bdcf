"""How long a step of a generating model takes: fitted to what was measured, the newest most."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

# Weight that a measurement loses with each newer one: about the last hundred count.
_KEPT = 0.99
# Before so many measurements nothing is predicted.
_ENOUGH = 8
# Units in which the four features are of the same size, so that few rounds of descent are needed.
_SCALE = (1.0, 1 / 64, 1 / 8, 1 / 65536)
_MOST_ROUNDS = 50
# Of the largest coefficient: what changes less does not matter.
_PRECISION = 1e-4


@dataclass(slots=True, kw_only=True)
class StepShape:
    """What a step computes; `attended` are the tokens before each of its tokens, added up."""

    prompt_tokens: int = 0
    answer_tokens: int = 0
    attended: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.answer_tokens


class StepTimeModel:
    """Seconds = a + b · prompt tokens + c · answers' tokens + d · attended; none of them negative.

    Weighted least squares by coordinate descent over the normal equations, which begins at the last
    solution: what the newest steps say nothing about stays as it was.
    """

    def __init__(self) -> None:
        self._products = [[0.0] * len(_SCALE) for _ in _SCALE]
        self._targets = [0.0] * len(_SCALE)
        self._coefficients = [0.0] * len(_SCALE)
        self._measured = 0
        self._is_fitted = True

    @property
    def is_trained(self) -> bool:
        """Also with steps in which prompts were computed."""
        return self._measured >= _ENOUGH and self._targets[1] > 0

    def observe(self, shape: StepShape, seconds: float) -> None:
        features = _features(shape)
        for row, own in enumerate(features):
            products = self._products[row]
            for column, other in enumerate(features):
                products[column] = products[column] * _KEPT + own * other
            self._targets[row] = self._targets[row] * _KEPT + own * seconds
        self._measured += 1
        self._is_fitted = False

    def predict(self, shape: StepShape) -> float:
        return math.sumprod(self._fitted(), _features(shape))

    def prompt_tokens_within(self, seconds: float, *, context: int) -> int:
        """The longest part of a prompt, after `context` tokens of it, that takes no more seconds.

        Its n tokens attend to n · context + n² / 2 tokens, so this is the root of a quadratic.
        """
        if seconds <= 0:
            return 0
        _, prompt, _, attended = map(float.__mul__, self._fitted(), _SCALE)
        each = prompt + attended * context
        divisor = each + math.sqrt(each * each + 2 * attended * seconds)
        return int(2 * seconds / divisor) if divisor else sys.maxsize

    def _fitted(self) -> Sequence[float]:
        """Only when it is asked for: most steps need no prediction."""
        if not self._is_fitted:
            self._fit()
            self._is_fitted = True
        return self._coefficients

    def _fit(self) -> None:
        for _ in range(_MOST_ROUNDS):
            before = list(self._coefficients)
            for row in range(len(_SCALE)):
                self._descend(row)
            changes = map(float.__sub__, before, self._coefficients)
            if max(map(abs, changes)) <= _PRECISION * max(self._coefficients):
                return

    def _descend(self, row: int) -> None:
        products = self._products[row]
        if products[row] <= 0:
            return
        explained = math.sumprod(products, self._coefficients)
        better = self._coefficients[row] + (self._targets[row] - explained) / products[row]
        self._coefficients[row] = max(0.0, better)


def _features(shape: StepShape) -> tuple[float, ...]:
    _, prompt, answer, attended = _SCALE
    return (
        1.0,
        shape.prompt_tokens * prompt,
        shape.answer_tokens * answer,
        shape.attended * attended,
    )
