"""What was asked for of late: pods go when fewer have been enough for all of the delay.

The past is kept in at most eight parts, each with its largest wish, in status: so a restart forgets
nothing, and the status is not written at every look. Being coarse it forgets too late, by at most
a seventh of the delay, and never too early.
"""

import math
from collections.abc import Sequence
from datetime import datetime

from modelserver_operator.apis.scaling_status import MOST_BUCKETS

type Window = tuple[str, ...]


def part_seconds(delay_seconds: int) -> int:
    """Eight parts, of which the first and the last are not whole, cover the delay."""
    return max(1, math.ceil(delay_seconds / (MOST_BUCKETS - 1)))


def noted(window: Window, wish: int, *, now: datetime, delay_seconds: int) -> Window:
    """With this wish, and without what is older than the delay.

    A part that begins in the future was written before the clock was set back: it counts as now.
    """
    length = part_seconds(delay_seconds)
    second = int(now.timestamp())
    current = second - second % length
    largest = {current: wish}
    for begun, pods in _read(window):
        start = min(begun, current)
        if start + length > second - delay_seconds or start == current:
            largest[start] = max(pods, largest.get(start, 0))
    kept = sorted(largest.items())[-MOST_BUCKETS:]
    return tuple(f"{start}:{pods}" for start, pods in kept)


def largest(window: Window) -> int:
    return max((pods for _, pods in _read(window)), default=0)


def _read(window: Sequence[str]) -> list[tuple[int, int]]:
    pairs = (text.partition(":") for text in window)
    return [(int(start), int(pods)) for start, _, pods in pairs]
