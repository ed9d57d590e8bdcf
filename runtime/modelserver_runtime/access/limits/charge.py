"""What a request takes from limits, and what is said about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

# Limits are per minute.
WINDOW_SECONDS = 60


class Unit(StrEnum):
    REQUESTS = "requests"
    TOKENS = "tokens"
    CONCURRENT = "concurrent requests"


class Algorithm(StrEnum):
    """`SLIDING_WINDOW`: never more than the limit in any minute.

    `TOKEN_BUCKET`: a burst at once, and from then on as much as flows in evenly; so up to limit and
    burst together in one minute.
    """

    SLIDING_WINDOW = "sliding_window"
    TOKEN_BUCKET = "token_bucket"  # noqa: S105  a bucket, not a secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """`subject` is whose limit it is, such as key:key_1f or address:10.0.0.7.

    `burst` is what a full bucket holds; the sliding window does not need it.
    """

    subject: str
    unit: Unit
    limit: int
    cost: int
    algorithm: Algorithm = Algorithm.SLIDING_WINDOW
    burst: int = 0

    @property
    def name(self) -> str:
        return f"{self.algorithm}:{self.unit}:{self.subject}"

    @property
    def capacity(self) -> int:
        """What may be taken at once."""
        return self.burst if self.algorithm is Algorithm.TOKEN_BUCKET else self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A place among the requests of a subject that are answered at the same time.

    It is free again after `longest_seconds` at the latest, in case nobody is left to free it.
    """

    subject: str
    limit: int
    holder: str
    longest_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """About one limit. `wait_seconds` is 0 when it admits; `reset_seconds` until it is full."""

    unit: Unit
    subject: str
    limit: int
    remaining: int
    wait_seconds: float = 0.0
    reset_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Of all limits together; a request takes from all or from none.

    `stamp` is the time by the clock that has decided, in seconds.
    """

    verdicts: Sequence[Verdict]
    stamp: float

    @property
    def refusal(self) -> Verdict | None:
        """The limit for which the wait is longest, or None."""
        waiting = [verdict for verdict in self.verdicts if verdict.wait_seconds > 0]
        return max(waiting, key=lambda one: one.wait_seconds, default=None)

    def tightest(self, unit: Unit) -> Verdict | None:
        """Of several limits of a unit the one that leaves least."""
        found = [verdict for verdict in self.verdicts if verdict.unit is unit]
        return min(found, key=lambda one: one.remaining, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What was taken, so that it can be corrected. `shared` is None when Redis was not asked.

    `own_charges` are what this replica has counted, which may be its part of `charges`.
    """

    charges: Sequence[Charge] = ()
    own_charges: Sequence[Charge] = ()
    slot: Slot | None = None
    own: Decision
    shared: Decision | None = None

    @property
    def decision(self) -> Decision:
        """What all replicas have left, where that is known."""
        return self.shared or self.own
