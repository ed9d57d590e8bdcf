"""The operator's Prometheus metrics."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

PREFIX = "modelserver_operator"
disable_created_metrics()  # type: ignore[no-untyped-call]  # twice the series, and nobody reads them

RECONCILE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counters and histograms that are told of what happens; see `Gauges` for what is read."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._reconciliations = Counter(
            f"{PREFIX}_reconcile_total",
            "Reconciliations by result: settled, wrote, decided, unsettled, or an error's name.",
            ["result"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            f"{PREFIX}_reconcile_seconds",
            "Duration of a reconciliation.",
            buckets=RECONCILE_BUCKETS,
            registry=self.registry,
        )
        self._requests = Counter(
            f"{PREFIX}_api_requests_total",
            "Requests to the Kubernetes API by RBAC verb and kind; code 0 is no answer.",
            ["verb", "kind", "code"],
            registry=self.registry,
        )
        self._restarts = Counter(
            f"{PREFIX}_watch_restarts_total",
            "Watches that had to begin again, by cause.",
            ["kind", "cause"],
            registry=self.registry,
        )

        self._decisions = Counter(
            f"{PREFIX}_rollout_decisions_total",
            "Steps of rollouts that were stored, by the reason of their Event.",
            ["reason"],
            registry=self.registry,
        )

    def decided(self, reason: str) -> None:
        self._decisions.labels(reason).inc()

    def request(self, *, verb: str, kind: str, code: int) -> None:
        self._requests.labels(verb, kind, str(code)).inc()

    def reconciled(self, result: str, seconds: float) -> None:
        self._reconciliations.labels(result).inc()
        self._seconds.observe(seconds)

    def restarted(self, kind: str, cause: str) -> None:
        self._restarts.labels(kind, cause).inc()

    def show(self, gauges: "Gauges") -> None:
        self.registry.register(gauges)


type Reading = tuple[tuple[str, ...], float]


class Gauges(Collector):
    """Values that are read when somebody asks, never kept."""

    def __init__(self) -> None:
        self._gauges: list[tuple[str, str, tuple[str, ...], Callable[[], list[Reading]]]] = []

    def add(self, name: str, text: str, read: Callable[[], float]) -> None:
        self._gauges.append((f"{PREFIX}_{name}", text, (), lambda: [((), read())]))

    def add_labelled(
        self, name: str, text: str, labels: tuple[str, ...], read: Callable[[], list[Reading]]
    ) -> None:
        self._gauges.append((f"{PREFIX}_{name}", text, labels, read))

    def collect(self) -> Iterator[Metric]:
        for name, text, labels, read in self._gauges:
            family = GaugeMetricFamily(name, text, labels=labels)
            for values, number in read():
                family.add_metric(values, number)
            yield family
