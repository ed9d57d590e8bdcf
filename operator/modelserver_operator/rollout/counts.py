"""What pods have counted since they began, and how much of it is new since the last look."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime

# As many as are read of a revision, so that a status stays small.
MOST_SOURCES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Cumulative in a reading, new ones in an increment."""

    requests: int = 0
    errors: int = 0
    slow: int = 0
    streams: int = 0
    slow_first: int = 0
    """Streams whose first token was late."""
    gaps: int = 0
    """Times between two tokens of a stream."""
    slow_gaps: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            requests=self.requests + other.requests,
            errors=self.errors + other.errors,
            slow=self.slow + other.slow,
            streams=self.streams + other.streams,
            slow_first=self.slow_first + other.slow_first,
            gaps=self.gaps + other.gaps,
            slow_gaps=self.slow_gaps + other.slow_gaps,
        )

    def __sub__(self, other: "Counts") -> "Counts":
        return Counts(
            requests=self.requests - other.requests,
            errors=self.errors - other.errors,
            slow=self.slow - other.slow,
            streams=self.streams - other.streams,
            slow_first=self.slow_first - other.slow_first,
            gaps=self.gaps - other.gaps,
            slow_gaps=self.slow_gaps - other.slow_gaps,
        )

    @property
    def is_negative(self) -> bool:
        return any(value < 0 for value in astuple(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A source counts several revisions if it is a router, and has one reading for each."""

    source: str
    revision: str
    counts: Counts
    began: datetime | None = None
    """When the process began to count; None if it does not say."""

    @property
    def key(self) -> tuple[str, str]:
        return self.revision, self.source


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    counts: Mapping[str, Counts]
    """What is new, of each revision that was read."""
    base: tuple[Reading, ...]
    """From which the next growth is counted; to be stored together with what `counts` led to."""


def growth_of(base: Iterable[Reading], now: Iterable[Reading], *, since: datetime) -> Growth:
    """`since` is when `base` was read, or when the run began if nothing was read yet.

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
    counts: dict[str, Counts] = {}
    for reading in current:
        new = _new_counts(before.get(reading.key), reading, since)
        counts[reading.revision] = counts.get(reading.revision, Counts()) + new
    return Growth(counts=counts, base=_next_base(before, current))


def _new_counts(before: Reading | None, now: Reading, since: datetime) -> Counts:
    if before is None:
        has_begun_since = now.began is not None and now.began >= since
        return now.counts if has_begun_since else Counts()
    grown = now.counts - before.counts
    return now.counts if grown.is_negative else grown


def _next_base(
    before: Mapping[tuple[str, str], Reading], current: Sequence[Reading]
) -> tuple[Reading, ...]:
    """Those of now, and of each revision as many that could not be read as there is room for."""
    keys = {reading.key for reading in current}
    absent = [reading for key, reading in sorted(before.items()) if key not in keys]
    kept = list(current)
    for reading in absent:
        if sum(one.revision == reading.revision for one in kept) < MOST_SOURCES:
            kept.append(reading)
    return tuple(sorted(kept, key=lambda reading: reading.key))
