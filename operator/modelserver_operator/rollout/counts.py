"""What pods have counted since they began, and how much of it is new since the last look."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from datetime import datetime

from modelserver_operator.rollout import growth
from modelserver_operator.rollout.growth import Growth


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


type RequestGrowth = Growth[Counts, Reading]


def growth_of(base: Iterable[Reading], now: Iterable[Reading], *, since: datetime) -> RequestGrowth:
    """Of revisions; `since` is when `base` was read, or when the run began."""
    return growth.growth_of(base, now, since=since, nothing=Counts())
