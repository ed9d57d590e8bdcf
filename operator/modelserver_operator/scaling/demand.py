"""How many pods the metrics ask for, by the rules of the HorizontalPodAutoscaler.

The rules: https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale, "Algorithm
details". The metric that asks for most decides; a metric that nobody can tell lets nothing shrink.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modelserver_operator.apis.autoscaling import Autoscaling, ScalingMetric
from modelserver_operator.scaling.samples import Samples

TOLERANCE = 0.1  # of kube-controller-manager's --horizontal-pod-autoscaler-tolerance
# What sums of floats may be off by; an HPA counts in thousandths.
_DUST = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """`replicas` is None where nobody could tell; `reason` has the numbers of what decided."""

    replicas: int | None
    reason: str
    unknown: tuple[str, ...] = ()  # names of what nobody could tell


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    name: str
    replicas: int | None
    reason: str


def demand_of(scaling: Autoscaling, samples: Samples, *, current: int) -> Demand:
    """`current` are the pods that there shall be now, at least one."""
    parts = [*_of_pods(scaling.measured, samples, current), *_of_queries(scaling, samples, current)]
    known = [part for part in parts if part.replicas is not None]
    unknown = tuple(part.name for part in parts if part.replicas is None)
    if not known:
        return Demand(replicas=None, reason="nothing is known", unknown=unknown)
    most = max(known, key=lambda part: part.replicas or 0)
    wanted = most.replicas or 0
    if unknown and wanted < current:
        return Demand(replicas=current, reason=f"{unknown[0]} is unknown", unknown=unknown)
    return Demand(replicas=wanted, reason=most.reason, unknown=unknown)


def _of_pods(metrics: Sequence[ScalingMetric], samples: Samples, current: int) -> Iterator[_Part]:
    for metric in metrics:
        values = [pod[metric.name] for pod in samples.pods if metric.name in pod]
        missing = len(samples.pods) - len(values)
        replicas = pods_for(values, missing, float(metric.target), current=current)
        reason = f"{metric.name} {_plain(sum(values))}/{metric.target}"
        yield _Part(name=metric.name, replicas=replicas, reason=reason)


def _of_queries(scaling: Autoscaling, samples: Samples, current: int) -> Iterator[_Part]:
    for query in scaling.queries:
        total = samples.asked_queries.get(query.name)
        if total is None or not math.isfinite(total):
            yield _Part(name=query.name, replicas=None, reason="")
            continue
        replicas = _within_tolerance(total, float(query.target), current, current)
        reason = f"{query.name} {_plain(total)}/{query.target}"
        yield _Part(name=query.name, replicas=replicas, reason=reason)


def pods_for(values: Sequence[float], missing: int, target: float, *, current: int) -> int | None:
    """None where no pod answers.

    Pods that did not answer count as full where fewer would do, as idle where more are needed; if
    that turns the direction around, nothing changes.
    """
    if not values:
        return None
    total = sum(values)
    is_up = total > len(values) * target
    believed = total if is_up else total + missing * target
    counted = len(values) + missing
    replicas = _within_tolerance(believed, target, counted, current)
    turned = replicas < current if is_up else replicas > current
    return current if turned and missing else replicas


def _within_tolerance(total: float, target: float, pods: int, current: int) -> int:
    """`current` where `pods` have about what they shall have."""
    if pods > 0 and abs(total / (pods * target) - 1) <= TOLERANCE:
        return current
    return math.ceil(round(total / target, _DUST))


def _plain(number: float) -> str:
    return f"{number:.4g}" if number < 10_000 else f"{number:.0f}"  # noqa: PLR2004  no exponent
