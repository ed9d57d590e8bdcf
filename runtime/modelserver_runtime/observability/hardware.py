"""How busy processors and accelerators are, as metrics that are read when they are asked for."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

type Clock = Callable[[], float]

# Two scrapers that come at nearly the same time share a measurement.
_SHORTEST_WINDOW_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """`utilization` is between 0 and 1, or None where its driver does not tell."""

    device: str
    used_bytes: int
    total_bytes: int
    utilization: float | None = None


def process_seconds() -> float:
    """Time of processors that this process has used, in all its threads."""
    times = os.times()
    return times.user + times.system


class HardwareCollector(Collector):
    def __init__(
        self,
        *,
        processors: int,
        clock: Clock,
        used_seconds: Clock = process_seconds,
        accelerators: Callable[[], Iterable[Accelerator]] = tuple,
    ) -> None:
        self._processors = processors
        self._clock = clock
        self._used_seconds = used_seconds
        self._accelerators = accelerators
        self._lock = threading.Lock()
        self._since = (clock(), used_seconds())
        self._utilization = 0.0

    def collect(self) -> Iterator[Metric]:
        found = list(self._accelerators())
        busy = GaugeMetricFamily(
            "modelserver_hardware_utilization",
            "Part of the processors' or an accelerator's time that was used since the last scrape",
            labels=["device"],
        )
        busy.add_metric(["cpu"], self._measured())
        for one in found:
            if one.utilization is not None:
                busy.add_metric([one.device], one.utilization)
        yield busy
        yield from _memory(found)

    def _measured(self) -> float:
        with self._lock:
            now, used = self._clock(), self._used_seconds()
            elapsed = now - self._since[0]
            if elapsed >= _SHORTEST_WINDOW_SECONDS:
                share = (used - self._since[1]) / (elapsed * self._processors)
                self._utilization = min(1.0, max(0.0, share))
                self._since = (now, used)
            return self._utilization


def _memory(accelerators: Iterable[Accelerator]) -> Iterator[Metric]:
    used = GaugeMetricFamily(
        "modelserver_accelerator_memory_used_bytes",
        "Memory of an accelerator that is in use, by any process",
        labels=["device"],
    )
    total = GaugeMetricFamily(
        "modelserver_accelerator_memory_bytes", "Memory of an accelerator", labels=["device"]
    )
    for one in accelerators:
        used.add_metric([one.device], one.used_bytes)
        total.add_metric([one.device], one.total_bytes)
    yield from (used, total)
