"""The gateway's second port: probes and metrics, for the kubelet and Prometheus."""

from collections.abc import Callable, Iterator

import orjson
from prometheus_client import CollectorRegistry, exposition
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from modelserver_runtime.gateway.body import Receive, Scope, Send
from modelserver_runtime.gateway.cluster.following import Cluster
from modelserver_runtime.gateway.holder import Holder
from modelserver_runtime.storage import RedisStore

_PREFIX = "modelserver_gateway_"
_SERVER = ("namespace", "server")
_JSON = b"application/json"
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


class Administration:
    """An ASGI application. `store` is None where nothing is shared."""

    def __init__(
        self,
        cluster: Cluster,
        registry: CollectorRegistry,
        store: RedisStore | None,
        is_draining: Callable[[], bool],
    ) -> None:
        self._cluster = cluster
        self._registry = registry
        self._store = store
        self._is_draining = is_draining

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status, kind, content = self._page(scope)
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _page(self, scope: Scope) -> tuple[int, bytes, bytes]:
        match scope["path"]:
            case "/livez":
                return 200, _JSON, b'{"live":true}'
            case "/readyz":
                return self._readiness()
            case "/metrics":
                accept = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
                encode, kind = exposition.choose_encoder(accept)
                return 200, kind.encode(), encode(self._registry)
            case path:
                message = f"There is no {path}; try /livez, /readyz or /metrics"
                return 404, _JSON, orjson.dumps({"error": message})

    def _readiness(self) -> tuple[int, bytes, bytes]:
        """Ready with what was known, while the API server is away."""
        problems = list(self._cluster.problems)
        if self._store is not None and not self._store.is_reachable:
            problems.append(_WITHOUT_REDIS)
        report = {"ready": True, "problems": problems}
        if self._is_draining():
            report = {"ready": False, "reason": "draining"}
        elif not self._cluster.is_known:
            reason = "; ".join(problems) or "the cluster's models have not been listed yet"
            report = {"ready": False, "reason": reason}
        return 200 if report["ready"] else 503, _JSON, orjson.dumps(report)


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{_PREFIX}{name}", text, labels=labels)
