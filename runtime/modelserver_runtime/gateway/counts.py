"""What clients were answered since the process began, for the operator and for Prometheus."""

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

# Seconds: those of the model server's own histograms, and more of them, because a gate rounds to
# the next one. One list for latency, first token and gaps, so that a reader needs no other.
EDGES_SECONDS = (
    *(0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4, 5, 7.5),
    *(10, 15, 20, 30, 40, 60, 80, 120, 160, 240, 320),
)
_FIRST_SERVER_ERROR = 500


class Histogram:
    """How many were within each edge and beyond the one before, and how many beyond the last."""

    __slots__ = ("buckets", "total_seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(EDGES_SECONDS) + 1)
        self.total_seconds = 0.0

    def observe(self, seconds: float) -> None:
        self.buckets[bisect_left(EDGES_SECONDS, seconds)] += 1
        self.total_seconds += seconds


@dataclass(slots=True, kw_only=True)
class Counts:
    """Of one revision, or of one experiment; `errors` are the 5xx answers and `no_answer`."""

    requests: int = 0
    errors: int = 0
    no_answer: int = 0
    in_flight: int = 0
    fallbacks: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    latency: Histogram = field(default_factory=Histogram)
    first_token: Histogram = field(default_factory=Histogram)
    token_gaps: Histogram = field(default_factory=Histogram)

    def note_answer(self, status: int) -> None:
        """As soon as its head has come: the client sees this status whatever follows."""
        self.requests += 1
        self.classes[f"{status // 100}xx"] += 1
        self.errors += status >= _FIRST_SERVER_ERROR

    def note_no_answer(self) -> None:
        """Of a request that was given no answer by this revision at all."""
        self.requests += 1
        self.classes["none"] += 1
        self.errors += 1
        self.no_answer += 1

    def note_broken(self, status: int) -> None:
        """The answer with this status, which has been noted, had no end."""
        self.errors += status < _FIRST_SERVER_ERROR
        self.no_answer += 1

    def as_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "errors": self.errors,
            "noAnswer": self.no_answer,
            "inFlight": self.in_flight,
            "latency": self.latency.buckets,
            "firstToken": self.first_token.buckets,
            "tokenGaps": self.token_gaps.buckets,
        }


@dataclass(slots=True, kw_only=True)
class ShadowCounts:
    """`pairs` were compared; `failed` copies got no good answer; `skipped` were never made."""

    copied: int = 0
    pairs: int = 0
    disagreed: int = 0
    baseline_pairs: int = 0
    baseline_disagreed: int = 0
    baseline_failed: int = 0
    failed: int = 0
    length_ratio_total: float = 0.0
    length_ratios: int = 0
    skipped: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """`meanLengthRatio` is that of the copy's answer to the client's, over all pairs."""
        mean = self.length_ratio_total / self.length_ratios if self.length_ratios else None
        return {
            "copied": self.copied,
            "pairs": self.pairs,
            "disagreed": self.disagreed,
            "baselinePairs": self.baseline_pairs,
            "baselineDisagreed": self.baseline_disagreed,
            "baselineFailed": self.baseline_failed,
            "failed": self.failed,
            "meanLengthRatio": None if mean is None else round(mean, 4),
            "skipped": dict(self.skipped),
        }


@dataclass(slots=True, kw_only=True)
class Tally:
    """All counts of the process; `refused` are by reason: requests that no revision got."""

    revisions: dict[str, Counts] = field(default_factory=dict)
    experiments: dict[str, Counts] = field(default_factory=dict)
    shadow: ShadowCounts = field(default_factory=ShadowCounts)
    clients_gone: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    reloads: Counter[str] = field(default_factory=Counter)

    def of_revision(self, revision: str) -> Counts:
        return self.revisions.setdefault(revision, Counts())

    def of_experiment(self, name: str) -> Counts:
        return self.experiments.setdefault(name, Counts())
