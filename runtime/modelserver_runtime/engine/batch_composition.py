"""Which of the waiting inputs are computed together."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from modelserver_runtime.engine.latency import LatencyModel


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """Of one batch: its items, and what they cost; one item always fits.

    If the backend `pads`, every item costs as much as the longest.
    """

    max_items: int
    max_cost: int
    pads: bool = True

    def cost(self, costs: Sequence[int]) -> int:
        return padded(costs) if self.pads else sum(costs)


def padded(costs: Sequence[int]) -> int:
    return max(costs, default=0) * len(costs)


def compose(costs: Sequence[int], limits: BatchLimits, latency: LatencyModel) -> list[int]:
    """Indices of the next batch: the oldest item, and those that fit to its length, oldest first.

    An item joins if the padding that it causes takes less time than a batch of its own would.
    `latency` knows the time of a batch by its cost. Without padding, the oldest items that fit.
    """
    if not limits.pads:
        ends = accumulate(costs[: limits.max_items])
        return list(range(max(1, sum(end <= limits.max_cost for end in ends))))
    chosen, longest = [0], costs[0]
    by_nearness = sorted(range(1, len(costs)), key=lambda index: abs(costs[index] - costs[0]))
    for index in by_nearness:
        if len(chosen) >= limits.max_items:
            break
        grown = max(longest, costs[index])
        cost = grown * (len(chosen) + 1)
        if cost > limits.max_cost:
            continue
        if _pays(cost - longest * len(chosen), costs[index], latency):
            chosen.append(index)
            longest = grown
    return sorted(chosen)


def _pays(more: int, own: int, latency: LatencyModel) -> bool:
    if not latency.is_trained:
        return True
    return latency.predict(more) - latency.predict(0) <= latency.predict(own)
