"""What is counted of experiments side by side: requests, errors, and a histogram of their times.

A *track* is an experiment, by its name, or a revision, as `=revision`. Every pod that is asked has
counted since it began; what is new since it was asked last is the difference.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from modelserver_operator.apis.experiment_status import Track
from modelserver_operator.rollout.growth import Growth, growth_of

# In seconds. Each next is about half as long again: a quantile that is told is at most that wrong,
# and all of them are among those of the router, so nothing is rounded twice.
EDGES_SECONDS = (
    *(0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75),
    *(1, 1.5, 2, 3, 5, 7.5, 10, 15, 30, 60, 160),
)
MILLISECONDS = 1000
# Of what a quantile is told: the ninth of ten among fewer is hardly more than one request.
FEWEST_FOR_QUANTILE = 20
_NONE = (0,) * (len(EDGES_SECONDS) + 1)


def track_of_revision(revision: str) -> str:
    """No experiment has such a name."""
    return f"={revision}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackCounts:
    """Cumulative in a reading, new ones in a growth. `buckets` are one more than the edges."""

    requests: int = 0
    errors: int = 0
    buckets: tuple[int, ...] = _NONE

    def __add__(self, other: "TrackCounts") -> "TrackCounts":
        pairs = zip(self.buckets, other.buckets, strict=True)
        return TrackCounts(
            requests=self.requests + other.requests,
            errors=self.errors + other.errors,
            buckets=tuple(one + more for one, more in pairs),
        )

    def __sub__(self, other: "TrackCounts") -> "TrackCounts":
        pairs = zip(self.buckets, other.buckets, strict=True)
        return TrackCounts(
            requests=self.requests - other.requests,
            errors=self.errors - other.errors,
            buckets=tuple(one - less for one, less in pairs),
        )

    @property
    def is_negative(self) -> bool:
        return min(self.requests, self.errors, *self.buckets) < 0


def folded(edges_seconds: Sequence[float], buckets: Sequence[int]) -> tuple[int, ...]:
    """A histogram with other edges, each bucket as a whole at the next edge that we have."""
    found = list(_NONE)
    for edge, number in zip((*edges_seconds, float("inf")), buckets, strict=True):
        found[bisect_left(EDGES_SECONDS, edge)] += number
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackReading:
    source: str
    track: str
    counts: TrackCounts
    began: datetime | None = None  # when the process began to count; None if it is not known

    @property
    def key(self) -> tuple[str, str]:
        return self.track, self.source


def track_growth(
    base: Iterable[TrackReading], now: Iterable[TrackReading], *, since: datetime | None
) -> Growth[TrackCounts, TrackReading]:
    """By track; `since` is when `base` was read, None if it never was."""
    return growth_of(base, now, since=since, nothing=TrackCounts())


# -- as stored -------------------------------------------------------------------------------------


def as_text(reading: TrackReading) -> str:
    counts = reading.counts
    buckets = buckets_as_text(counts.buckets)
    return f"{reading.source}/{reading.track}/{counts.requests}/{counts.errors}/{buckets}"


def reading_of(text: str) -> TrackReading:
    source, track, requests, errors, buckets = text.split("/")
    counts = TrackCounts(
        requests=int(requests), errors=int(errors), buckets=buckets_of_text(buckets)
    )
    return TrackReading(source=source, track=track, counts=counts)


def buckets_as_text(buckets: Sequence[int]) -> str:
    return ",".join(f"{index}:{number}" for index, number in enumerate(buckets) if number)


def buckets_of_text(text: str) -> tuple[int, ...]:
    found = list(_NONE)
    for pair in filter(None, text.split(",")):
        index, _, number = pair.partition(":")
        found[int(index)] = int(number)
    return tuple(found)


def added(track: Track, new: TrackCounts) -> Track:
    """With the numbers that are told made anew."""
    before = TrackCounts(
        requests=track.requests, errors=track.errors, buckets=buckets_of_text(track.buckets)
    )
    total = before + new
    return Track(
        requests=total.requests,
        errors=total.errors,
        errors_percent=_percent(total),
        p50_milliseconds=quantile_milliseconds(total.buckets, 0.5),
        p90_milliseconds=quantile_milliseconds(total.buckets, 0.9),
        buckets=buckets_as_text(total.buckets),
    )


def _percent(counts: TrackCounts) -> str:
    return f"{100 * counts.errors / counts.requests:.3g}" if counts.requests else ""


def quantile_milliseconds(buckets: Sequence[int], part: float) -> int | None:
    """As if times were spread evenly within a bucket; the last edge for what is beyond it."""
    count = sum(buckets)
    if count < FEWEST_FOR_QUANTILE:
        return None
    wanted, seen, lower = part * count, 0, 0.0
    for edge, number in zip(EDGES_SECONDS, buckets, strict=False):
        if seen + number >= wanted:
            return round((lower + (edge - lower) * (wanted - seen) / number) * MILLISECONDS)
        seen, lower = seen + number, edge
    return round(lower * MILLISECONDS)
