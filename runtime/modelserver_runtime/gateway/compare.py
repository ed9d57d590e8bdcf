"""Whether two answers to the same request agree."""

import math
from dataclasses import dataclass

from modelserver_runtime.gateway.answers import Content, Texts, Vector, Vectors

_PERCENT = 100
# What two machines compute of the same numbers differs in the last digits.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """`length_ratio` is that of the second answer's texts to the first one's; None for others."""

    agrees: bool
    length_ratio: float | None = None


def compare(first: Content, second: Content | None, *, min_cosine_percent: int) -> Agreement:
    """Answers of different kinds, or with different numbers of parts, never agree."""
    if second is None or type(first) is not type(second):
        return Agreement(agrees=False)
    if isinstance(first, Vectors) and isinstance(second, Vectors):
        pairs = zip(first.values, second.values, strict=False)
        bound = min_cosine_percent / _PERCENT - _ROUNDING
        is_close = all(_cosine(one, other) >= bound for one, other in pairs)
        return Agreement(agrees=is_close and len(first.values) == len(second.values))
    ratio = None
    if isinstance(first, Texts) and isinstance(second, Texts):
        lengths = [sum(map(len, texts.values)) for texts in (first, second)]
        ratio = lengths[1] / lengths[0] if lengths[0] else None
    return Agreement(agrees=first.values == second.values, length_ratio=ratio)


def _cosine(one: Vector, other: Vector) -> float:
    """Two vectors of nothing but zeros agree; vectors of different lengths never do."""
    if len(one) != len(other):
        return -1.0
    lengths = math.hypot(*one) * math.hypot(*other)
    return math.sumprod(one, other) / lengths if lengths else float(one == other)
