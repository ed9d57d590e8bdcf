"""The requests of each model for Prometheus: made from the same counts as the page."""

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from modelserver_runtime.gateway.counts import EDGES_SECONDS, Histogram
from modelserver_runtime.gateway.traffic import Traffic

_PREFIX = "modelserver_gateway_"
_SERVER = ("namespace", "server")


class TrafficCollector(Collector):
    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            f"{_PREFIX}requests",
            "Requests of a model by class of the answer's code; none: the client left before, "
            "broken: the pod ended within it",
            labels=(*_SERVER, "code"),
        )
        in_flight = GaugeMetricFamily(
            f"{_PREFIX}inflight_requests", "Requests under way, held ones included", labels=_SERVER
        )
        duration = HistogramMetricFamily(
            f"{_PREFIX}request_duration_seconds",
            "Time from a request to its answer's last byte, the wait for a model included",
            labels=_SERVER,
        )
        for key, model in self._traffic.models.items():
            for code, count in model.classes.items():
                requests.add_metric((*key, code), count)
            in_flight.add_metric(key, model.in_flight)
            duration.add_metric(key, _cumulated(model.latency), model.latency.total_seconds)
        yield from (requests, in_flight, duration)


def _cumulated(histogram: Histogram) -> list[tuple[str, float]]:
    """Prometheus counts each bucket together with all below it."""
    edges = (*(str(float(edge)) for edge in EDGES_SECONDS), "+Inf")
    return list(zip(edges, accumulate(histogram.buckets), strict=True))
