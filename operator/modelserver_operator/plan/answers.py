"""What pods said about the requests that they have seen, as it was said."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from modelserver_operator.apis.rollout import MetricSource

# Of what a quantile is taken; the first ten say little about the ninth of ten.
FEWEST_FOR_QUANTILE = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """How many were within each edge and beyond the one before, and how many beyond the last."""

    edges_seconds: tuple[float, ...] = ()
    buckets: tuple[int, ...] = (0,)

    @property
    def count(self) -> int:
        return sum(self.buckets)

    def above(self, seconds: float) -> int:
        """How many took longer; what is between two edges is rounded up to the next."""
        return sum(self.buckets[bisect_left(self.edges_seconds, seconds) + 1 :])

    def edge_above(self, seconds: float) -> float:
        """The next edge; the last one for what is beyond."""
        index = bisect_left(self.edges_seconds, seconds)
        return self.edges_seconds[min(index, len(self.edges_seconds) - 1)]

    def quantile_edge(self, part: float) -> float | None:
        """The edge within which that part was; None if too few were seen, or they took longer."""
        if self.count < FEWEST_FOR_QUANTILE:
            return None
        seen = 0
        for edge, number in zip(self.edges_seconds, self.buckets, strict=False):
            seen += number
            if seen >= part * self.count:
                return edge
        return None

    def __add__(self, other: "Histogram") -> "Histogram":
        """Of two with the same edges; one that has seen nothing may have others."""
        if self.edges_seconds != other.edges_seconds:
            return self if self.count >= other.count else other
        pairs = zip(self.buckets, other.buckets, strict=True)
        return Histogram(
            edges_seconds=self.edges_seconds, buckets=tuple(one + more for one, more in pairs)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """All that a process has counted of one revision since it began."""

    requests: int = 0
    errors: int = 0
    latency: Histogram = Histogram()
    first_token: Histogram = Histogram()
    token_gaps: Histogram = Histogram()


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """Answers to copied requests, compared; and those of the stable revision with its own."""

    pairs: int = 0
    disagreed: int = 0
    baseline_pairs: int = 0
    baseline_disagreed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterAnswer:
    """`version` is of the route that is in force there; `problem` is why no newer one is."""

    version: str
    problem: str = ""
    began: datetime | None = None
    tallies: Mapping[str, Tally] = MappingProxyType({})
    experiments: Mapping[str, Tally] = MappingProxyType({})  # by name; not in `tallies`
    copies: Copies = Copies()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAnswer:
    """Of one pod of a revision."""

    began: datetime | None = None
    tally: Tally = Tally()


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredSource:
    """A pod, as a Prometheus knows it; `source` tells it from other pods."""

    source: str
    revision: str
    answer: ModelAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a Prometheus knows; `problem` says in a sentence why it knows nothing."""

    sources: tuple[MeasuredSource, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesQuestion:
    """Of a Prometheus. `revisions` is by what its series are told apart: the names of pods, or of
    Istio's workloads.
    """  # noqa: D205  one sentence

    source: MetricSource
    namespace: str
    revisions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """Names of pods to ask: of the built-in router, and of revisions."""

    routers: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.routers or self.models)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Answers by pod; who was asked and is not in here did not answer, or not in these words."""

    routers: Mapping[str, RouterAnswer] = MappingProxyType({})
    models: Mapping[str, ModelAnswer] = MappingProxyType({})


NO_QUESTIONS = Questions()
NOTHING_HEARD = Heard()
