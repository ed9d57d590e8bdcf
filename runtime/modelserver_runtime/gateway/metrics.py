"""The router's metrics for Prometheus: made from the same counts as its status, when asked for."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from modelserver_runtime.gateway.counts import EDGES_SECONDS, Counts, Histogram
from modelserver_runtime.gateway.status import Status

_PREFIX = "modelserver_router_"
_LABELS = ("revision", "experiment")


class RouterCollector(Collector):
    def __init__(self, status: Status) -> None:
        self._status = status
        self._router = status.router

    def collect(self) -> Iterator[Metric]:
        yield from self._requests()
        yield from self._times()
        yield from self._state()
        yield from self._shadow()

    @property
    def _counts(self) -> Iterator[tuple[tuple[str, str], Counts]]:
        """Of revisions by weight or stickiness, and of experiments, by revision and experiment."""
        tally = self._router.tally
        for revision, counts in tally.revisions.items():
            yield (revision, ""), counts
        for name, counts in tally.experiments.items():
            yield ("", name), counts

    def _requests(self) -> Iterator[Metric]:
        requests = _counter("requests", "Requests by class of the answer's code", *_LABELS, "code")
        for labels, counts in self._counts:
            for code, count in counts.classes.items():
                requests.add_metric([*labels, code], count)
        yield requests
        yield self._each("no_answer", "Requests without a whole answer", lambda c: c.no_answer)
        yield self._each(
            "fallbacks", "Requests that stable answered instead", lambda c: c.fallbacks
        )
        in_flight = GaugeMetricFamily(
            f"{_PREFIX}inflight_requests", "Requests under way", labels=_LABELS
        )
        for labels, counts in self._counts:
            in_flight.add_metric(labels, counts.in_flight)
        yield in_flight

    def _each(self, name: str, text: str, value: Callable[[Counts], int]) -> Metric:
        family = _counter(name, text, *_LABELS)
        for labels, counts in self._counts:
            family.add_metric(labels, value(counts))
        return family

    def _times(self) -> Iterator[Metric]:
        yield self._histogram(
            "request_duration_seconds",
            "Time from a request to its answer's last byte",
            lambda counts: counts.latency,
        )
        yield self._histogram(
            "time_to_first_token_seconds",
            "Time from a request to the first token of its stream",
            lambda counts: counts.first_token,
        )
        yield self._histogram(
            "inter_token_seconds",
            "Time between two tokens of a stream",
            lambda counts: counts.token_gaps,
        )

    def _histogram(self, name: str, text: str, value: Callable[[Counts], Histogram]) -> Metric:
        family = HistogramMetricFamily(f"{_PREFIX}{name}", text, labels=_LABELS)
        for labels, counts in self._counts:
            histogram = value(counts)
            family.add_metric(labels, _cumulated(histogram), histogram.total_seconds)
        return family

    def _state(self) -> Iterator[Metric]:
        tally = self._router.tally
        yield _by("refused", "Requests that no revision got, by why", "reason", tally.refused)
        yield _by("route_reads", "Times that the route's file had changed", "result", tally.reloads)
        holder = self._router.holder
        yield _gauge("held_requests", "Requests that wait for a revision", holder.requests)
        yield _gauge("held_bytes", "Memory that waiting requests take", holder.held_bytes)
        yield _gauge("route_valid", "1 if the file's route is followed", not self._problem)
        yield _one("clients_gone", "Clients that left before their answer", tally.clients_gone)
        weights = GaugeMetricFamily(
            f"{_PREFIX}weight", "Percent of the requests, by the route", labels=["revision"]
        )
        way = self._router.way
        for revision, weight in (way.route.weights if way else {}).items():
            weights.add_metric([revision], weight)
        yield weights

    @property
    def _problem(self) -> str:
        return self._status.route_file.problem

    def _shadow(self) -> Iterator[Metric]:
        shadow = self._router.tally.shadow
        yield _one("shadow_copied", "Requests that were copied", shadow.copied)
        yield _one("shadow_failed", "Copies without a good answer", shadow.failed)
        yield _by("shadow_skipped", "Copies that were not made", "reason", shadow.skipped)
        yield _by(
            "shadow_pairs",
            "Pairs of answers that were compared, by what answered the copy",
            "with",
            {"candidate": shadow.pairs, "stable": shadow.baseline_pairs},
        )
        yield _by(
            "shadow_disagreed",
            "Pairs of answers that disagreed, by what answered the copy",
            "with",
            {"candidate": shadow.disagreed, "stable": shadow.baseline_disagreed},
        )


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"{_PREFIX}{name}", text, labels=labels)


def _one(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"{_PREFIX}{name}", text, value=value)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{_PREFIX}{name}", text, value=float(value))


def _by(name: str, text: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    family = _counter(name, text, label)
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _cumulated(histogram: Histogram) -> list[tuple[str, float]]:
    """Prometheus counts each bucket together with all below it."""
    edges: Iterable[str] = (*(str(float(edge)) for edge in EDGES_SECONDS), "+Inf")
    return list(zip(edges, accumulate(histogram.buckets), strict=True))


def registry_of(status: Status) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(RouterCollector(status))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
