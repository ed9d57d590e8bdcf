"""What the gateway of a cluster says of itself to the kubelet and to Prometheus."""

from collections.abc import Iterator
from typing import Any

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from modelserver_runtime.gateway.cluster.following import Cluster
from modelserver_runtime.gateway.holder import Holder
from modelserver_runtime.storage import RedisStore

_PREFIX = "modelserver_gateway_"
_SERVER = ("namespace", "server")
_WITHOUT_REDIS = "Redis does not answer: until it does, each gateway allows its part of every limit"


class GatewayCollector(Collector):
    def __init__(self, cluster: Cluster, holder: Holder) -> None:
        self._cluster = cluster
        self._holder = holder

    def collect(self) -> Iterator[Metric]:
        requests = _gauge("held_requests", "Requests that wait for a model", *_SERVER)
        size = _gauge("held_bytes", "Memory that waiting requests take", *_SERVER)
        wakings = CounterMetricFamily(
            f"{_PREFIX}activations", "Times that a model was waited for anew", labels=_SERVER
        )
        for key, room in self._holder.rooms.items():
            requests.add_metric(key, room.requests)
            size.add_metric(key, room.held_bytes)
            wakings.add_metric(key, room.wakings)
        yield from (requests, size, wakings)
        states = _gauge("models", "Models of the cluster by state", "state")
        for state, count in self._states().items():
            states.add_metric((state,), count)
        yield states
        problems = _gauge("watch_problems", "Collections of the API that cannot be followed")
        problems.add_metric((), len(self._cluster.problems))
        yield problems

    def _states(self) -> dict[str, int]:
        states = [model.state for model in self._cluster.directory.servers.values()]
        return {state: states.count(state) for state in set(states)}


def readiness(cluster: Cluster, store: RedisStore | None, *, is_draining: bool) -> dict[str, Any]:
    """Ready with what was known, while the API server is away. `store` is None without Redis."""
    problems = list(cluster.problems)
    if store is not None and not store.is_reachable:
        problems.append(_WITHOUT_REDIS)
    if is_draining:
        return {"ready": False, "reason": "draining"}
    if not cluster.is_known:
        reason = "; ".join(problems) or "the cluster's models have not been listed yet"
        return {"ready": False, "reason": reason}
    return {"ready": True, "problems": problems}


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{_PREFIX}{name}", text, labels=labels)
