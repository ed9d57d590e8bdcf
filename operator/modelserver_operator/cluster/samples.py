"""From samples of Prometheus to counts; what is not a count raises ValueError."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from prometheus_client.samples import Sample

from modelserver_operator.plan.answers import Histogram, ModelAnswer, Tally

MOST_EDGES = 256
MOST_COUNTED = 2**53  # JSON's numbers are exact up to here


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """How metrics are called, "" for those that there are not; `code` is a label of `requests`."""

    requests: str
    code: str
    latency: str
    edges_in_a_second: float = 1.0  # of `le`: 1000 where it is in milliseconds
    first_token: str = ""
    token_gaps: str = ""
    began: str = ""

    @property
    def all(self) -> tuple[str, ...]:
        named = (self.requests, self.latency, self.first_token, self.token_gaps, self.began)
        return tuple(filter(None, named))


RUNTIME = Names(
    requests="modelserver_requests_total",
    code="code",
    latency="modelserver_request_duration_seconds_bucket",
    first_token="modelserver_time_to_first_token_seconds_bucket",  # noqa: S106  of text
    token_gaps="modelserver_inter_token_seconds_bucket",  # noqa: S106  of text
    began="process_start_time_seconds",
)
ISTIO = Names(
    requests="istio_requests_total",
    code="response_code",
    latency="istio_request_duration_milliseconds_bucket",
    edges_in_a_second=1000,
)


def counted(samples: Iterable[Sample], names: Names) -> ModelAnswer:
    """All that one process has counted since it began; routes and models are added up."""
    found: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        found[sample.name].append(sample)
    failed = (one for one in found[names.requests] if one.labels[names.code].startswith("5"))
    return ModelAnswer(
        began=_began(found, names),
        tally=Tally(
            requests=total(found[names.requests]),
            errors=total(failed),
            latency=_cumulative(found[names.latency], names.edges_in_a_second),
            first_token=_cumulative(found[names.first_token]),
            token_gaps=_cumulative(found[names.token_gaps]),
        ),
    )


def _began(found: Mapping[str, list[Sample]], names: Names) -> datetime | None:
    samples = found.get(names.began, ()) if names.began else ()
    return datetime.fromtimestamp(samples[0].value, UTC) if samples else None


def total(samples: Iterable[Sample]) -> int:
    return count_of(sum(sample.value for sample in samples))


def count_of(number: float | str) -> int:
    whole = int(number)
    if not 0 <= whole <= MOST_COUNTED:
        raise ValueError(f"{whole} is no count")
    return whole


def _cumulative(samples: Iterable[Sample], edges_in_a_second: float = 1.0) -> Histogram:
    """Prometheus' buckets contain those before them."""
    within: dict[float, float] = defaultdict(float)
    for sample in samples:
        within[float(sample.labels["le"]) / edges_in_a_second] += sample.value
    edges = tuple(sorted(edge for edge in within if math.isfinite(edge)))[:MOST_EDGES]
    numbers = [count_of(within[edge]) for edge in edges] + [count_of(within.get(math.inf, 0))]
    buckets = [now - before for before, now in zip([0, *numbers], numbers, strict=False)]
    return Histogram(edges_seconds=edges, buckets=tuple(count_of(one) for one in buckets))
