"""What pods say, as numbers of the metrics of the spec."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from modelserver_operator.apis.autoscaling import MetricName

PERCENT = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PodReading:
    """What one pod has counted at `at`, by its own metrics; None where it does not say.

    `requests`, `tokens` and `cpu_seconds` only grow while the pod's process lives.
    """

    pod: str  # its uid
    at: datetime
    requests: int | None = None
    in_flight: float | None = None
    queue_depth: float | None = None
    tokens: float | None = None
    cpu_seconds: float | None = None
    memory_bytes: float | None = None
    gpu_share: float | None = None  # 0 to 1, the mean of its accelerators


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """What the server's container requests; 0 where it requests nothing."""

    cpu_cores: float = 0.0
    memory_bytes: float = 0.0


type Values = Mapping[MetricName, float]


def values_of(now: PodReading, before: PodReading | None, requests: Requests) -> Values:
    """In the units of the targets.

    What cannot be said is left out: rates at the first reading of a pod, and percents of what is
    not requested.
    """
    found = {
        MetricName.IN_FLIGHT: now.in_flight,
        MetricName.QUEUE_DEPTH: now.queue_depth,
        MetricName.TOKENS_PER_SECOND: _rate(now, before, "tokens"),
        MetricName.CPU: _percent(_rate(now, before, "cpu_seconds"), requests.cpu_cores),
        MetricName.MEMORY: _percent(now.memory_bytes, requests.memory_bytes),
        MetricName.GPU: _percent(now.gpu_share, 1.0),
    }
    return {name: value for name, value in found.items() if value is not None}


def _percent(part: float | None, whole: float) -> float | None:
    return PERCENT * part / whole if part is not None and whole > 0 else None


def _rate(now: PodReading, before: PodReading | None, name: str) -> float | None:
    """Per second; None where the process has begun anew in between."""
    if before is None or before.pod != now.pod:
        return None
    old, new = getattr(before, name), getattr(now, name)
    seconds = (now.at - before.at).total_seconds()
    if old is None or new is None or seconds <= 0 or new < old:
        return None
    return float((new - old) / seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """`pods` are those of the revision that do not end, ready or not.

    One that did not answer has no values. `queries` are the answers of Prometheus, by name.
    """

    pods: Sequence[Values] = ()
    queries: Mapping[str, float] | None = None

    @property
    def asked_queries(self) -> Mapping[str, float]:
        return self.queries or {}
