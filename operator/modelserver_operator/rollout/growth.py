"""What processes that count from their start have counted since they were last read.

A *source* is such a process; a *group* is what it counted of: a revision, or an experiment.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, Self

from modelserver_operator.apis.rollout_status import MOST_SOURCES


class Amount(Protocol):
    """Cumulative in a reading, new ones in a growth."""

    def __add__(self, other: Self) -> Self: ...

    def __sub__(self, other: Self) -> Self: ...

    @property
    def is_negative(self) -> bool: ...


class SourceReading[A: Amount](Protocol):
    @property
    def key(self) -> tuple[str, str]:
        """Group and source."""
        ...

    @property
    def counts(self) -> A: ...

    @property
    def began(self) -> datetime | None:
        """When the process began to count; None if it does not say."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth[A: Amount, R]:
    counts: Mapping[str, A]
    """What is new, of each group that was read."""
    base: tuple[R, ...]
    """From which the next growth is counted; to be stored together with what `counts` led to."""


def growth_of[A: Amount, R: SourceReading[Any]](
    base: Iterable[R], now: Iterable[R], *, since: datetime | None, nothing: A
) -> Growth[A, R]:
    """`since` is when `base` was read, or when counting began; None if nothing was read yet.

        in the base, grew              what it grew by
        in the base, fell              all of it: it began anew
        new, began after `since`       all of it
        new, began before `since`      nothing: it may have been counted already
        in the base, not read now      nothing, and it stays in the base: when it is read again
                                       what happened meanwhile is counted then

    A pod too busy to be read in time is just the one whose failures must not be lost.
    """
    before = {reading.key: reading for reading in base}
    current = sorted(now, key=lambda reading: reading.key)
    counts: dict[str, A] = {}
    for reading in current:
        group, _ = reading.key
        new = _new(before.get(reading.key), reading, since, nothing)
        counts[group] = counts.get(group, nothing) + new
    return Growth(counts=counts, base=_next_base(before, current))


def _new[A: Amount](
    before: SourceReading[A] | None, now: SourceReading[A], since: datetime | None, nothing: A
) -> A:
    if before is None:
        has_begun_since = since is not None and now.began is not None and now.began >= since
        return now.counts if has_begun_since else nothing
    grown = now.counts - before.counts
    return now.counts if grown.is_negative else grown


def _next_base[R: SourceReading[Any]](
    before: Mapping[tuple[str, str], R], current: Sequence[R]
) -> tuple[R, ...]:
    """Of each group as many as were read now; then those that could not be, if there is room."""
    read = {reading.key for reading in current}
    absent = (reading for key, reading in sorted(before.items()) if key not in read)
    kept: list[R] = []
    for reading in (*current, *absent):
        group, _ = reading.key
        if sum(one.key[0] == group for one in kept) < MOST_SOURCES:
            kept.append(reading)
    return tuple(sorted(kept, key=lambda reading: reading.key))
