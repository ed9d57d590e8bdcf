"""What is drawn from the logits of one token, by numpy and without sorting a vocabulary.

torch would share each of these operations among its threads, and wait for all of them: that takes
longer than the operation, and on a busy machine a hundred times as long.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

type Logits = NDArray[np.float32]
type Weights = NDArray[np.float32]

# So many numbers are sorted within 20 us; of more, those that are certain are set aside first.
_FEW = 1024
# Weights below it are not told apart without sorting: they are needed by flat distributions only.
_TINY = math.exp(-32)
# Room for the rounding of exponentials, whose arguments are what is compared.
_NEARLY = 1 - 1e-5
# Tokens of a block, whose weights are summed before one of them is looked for: about the root of
# a vocabulary.
_BLOCK = 256


def weights_of(logits: Logits, temperature: float) -> Weights:
    """Probabilities up to a factor; the largest is 1."""
    weights = logits - logits.max()
    weights /= np.float32(temperature)
    return np.exp(weights, out=weights)


def draw(weights: Weights, uniform: float, *, top_k: int, top_p: float, min_p: float) -> int:
    """A token as likely as its weight, of those that are kept; `uniform` is in [0, 1).

    As in transformers, the `top_k` largest weights are kept (0: all), of these the largest that
    together reach `top_p`, and of these what is at least `min_p` of the largest.
    """
    floor = _floor(weights, top_k, top_p, min_p)
    if floor <= 0:
        return _drawn(weights, uniform)
    kept = np.flatnonzero(weights >= floor)
    return int(kept[_drawn(weights[kept], uniform)])


def _floor(weights: Weights, top_k: int, top_p: float, min_p: float) -> float:
    """The smallest weight that is kept."""
    floor = 0.0
    if 0 < top_k < weights.size:
        floor = _smallest_of_largest(weights, top_k, _count)
    if top_p < 1:
        left = weights[weights >= floor] if floor > 0 else weights
        floor = _smallest_of_largest(left, top_p * float(left.sum()), _sum)
    return max(floor, min_p)


def _count(_: Weights, is_meant: NDArray[np.bool_]) -> float:
    return int(np.count_nonzero(is_meant))


def _sum(weights: Weights, is_meant: NDArray[np.bool_]) -> float:
    return float((weights * is_meant).sum())  # twice as fast as a sum of only these


def _smallest_of_largest(
    weights: Weights, wanted: float, amount: Callable[[Weights, NDArray[np.bool_]], float]
) -> float:
    """The smallest of the fewest largest weights whose `amount`, count or sum, is `wanted`.

    It is searched by halving, until so few are left that they can be sorted.
    """
    low, high = 0.0, math.inf  # from `low` on it is enough, from `high` on it is not
    of_high, most, fewest = 0.0, weights.size, 0
    while most - fewest > _FEW and high > _TINY:
        middle = math.sqrt(max(low, _TINY) * min(high, 1.0))
        if middle in (low, high):
            break
        is_upper = weights >= np.float32(middle)
        of_upper = amount(weights, is_upper)
        if of_upper >= wanted:
            low, most = middle, int(np.count_nonzero(is_upper))
            if 2 * most < weights.size:
                weights = weights[is_upper]
        else:
            high, of_high, fewest = middle, of_upper, int(np.count_nonzero(is_upper))
    between = weights[(weights >= np.float32(low)) & (weights < np.float32(high))]
    return _smallest_by_sorting(between, wanted - of_high, is_sum=amount is _sum)


def _smallest_by_sorting(weights: Weights, wanted: float, *, is_sum: bool) -> float:
    largest = np.sort(weights)[::-1]
    reached = math.ceil(wanted) - 1
    if is_sum:
        reached = int(np.searchsorted(np.cumsum(largest, dtype=np.float64), wanted))
    return float(largest[min(reached, largest.size - 1)])


def _drawn(weights: Weights, uniform: float) -> int:
    """Finds a block by the sums of blocks, then a token of it."""
    starts = np.arange(0, weights.size, _BLOCK)
    sums = np.cumsum(np.add.reduceat(weights, starts), dtype=np.float64)
    block, rest = _found(sums, uniform * sums[-1])
    begin = int(starts[block])
    inside = weights[begin : begin + _BLOCK]
    token, _ = _found(np.cumsum(inside, dtype=np.float64), rest)
    # Rounding may lead to the tokens of a block's end, even to those that cannot be.
    return begin + (token if inside[token] > 0 else int(np.flatnonzero(inside)[-1]))


def _found(sums: NDArray[np.float64], target: float) -> tuple[int, float]:
    """The first whose sum is beyond the target, and what the target is beyond the one before."""
    at = min(int(np.searchsorted(sums, target, side="right")), sums.size - 1)
    return at, target - (float(sums[at - 1]) if at else 0.0)


def likeliest_tokens(logits: Logits, count: int) -> tuple[NDArray[np.intp], float]:
    """The `count` largest logits, the largest first, of equal ones the first; and log(sum(exp)).

    Log probabilities are logits less that.
    """
    weights = weights_of(logits, 1.0)
    total = float(logits.max()) + math.log(float(weights.sum()))
    if not count:
        return np.empty(0, np.intp), total
    floor = _smallest_of_largest(weights, min(count, weights.size), _count)
    near = np.flatnonzero(weights >= np.float32(floor * _NEARLY))
    order = np.argsort(-logits[near], kind="stable")
    return near[order[:count]], total
