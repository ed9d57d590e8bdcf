"""The runtime's metrics: every Prometheus object, in one place, with bounded labels."""

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    exposition,
)

_LABELS = ("model", "revision")
# Seconds. Small models answer in milliseconds, large ones on a CPU in minutes.
_REQUEST_BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1, 2.5, 5, 10, 20, 40, 80, 160, 320),
)
_TOKEN_BUCKETS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.02,
    0.03,
    0.05,
    0.075,
    0.1,
    0.15,
    0.25,
    0.5,
    1,
    2.5,
    5,
)
_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


# When a series began, as a series of its own: nobody asks for it, and it doubles the page.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Telemetry:
    """The registry and its families; `of` gives the metrics of one model."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._families = _Families(self.registry)
        self._models: dict[tuple[str, str], ModelTelemetry] = {}
        self.models_loaded = Gauge(
            "modelserver_models_loaded", "Models that are in memory", registry=self.registry
        )
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def of(self, model: str, revision: str) -> "ModelTelemetry":
        """The same object for the same labels; only for models that are configured."""
        labels = (model, revision)
        if labels not in self._models:
            self._models[labels] = ModelTelemetry(self._families, labels)
        return self._models[labels]

    def render(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its content type, in the format that the scraper prefers."""
        encode: Callable[[CollectorRegistry], bytes]
        encode, content_type = exposition.choose_encoder(accept)
        return encode(self.registry), content_type


class _Families:
    """Every metric of a model, by the name of `ModelTelemetry`'s attribute."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.requests = Counter(
            "modelserver_requests",
            "Requests answered, by route and status code",
            (*_LABELS, "route", "code"),
            registry=registry,
        )
        self.request_seconds = Histogram(
            "modelserver_request_duration_seconds",
            "Time from the request's first byte to the answer's last",
            (*_LABELS, "route"),
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self.in_flight = self._gauge(
            "modelserver_inflight_requests", "Requests that are being answered"
        )
        self._define_generation()
        self._define_engine()
        self._define_life()

    def _define_generation(self) -> None:
        self.first_token_seconds = self._histogram(
            "modelserver_time_to_first_token_seconds",
            "Time from a request to its first token",
            _REQUEST_BUCKETS,
        )
        self.inter_token_seconds = self._histogram(
            "modelserver_inter_token_seconds",
            "Time between two tokens of an answer",
            _TOKEN_BUCKETS,
        )
        self.prompt_tokens = self._counter(
            "modelserver_prompt_tokens", "Tokens that came in: prompts and texts to embed"
        )
        self.generated_tokens = self._counter(
            "modelserver_generated_tokens", "Tokens that were generated"
        )

    def _define_engine(self) -> None:
        self.queue_seconds = self._histogram(
            "modelserver_queue_seconds", "Time that a request waited for its turn", _REQUEST_BUCKETS
        )
        self.step_seconds = self._histogram(
            "modelserver_step_seconds", "Time of one step of the model", _REQUEST_BUCKETS
        )
        self.batch_size = self._histogram(
            "modelserver_batch_size", "Sequences or inputs that a step computes", _BATCH_BUCKETS
        )
        self.running = self._gauge(
            "modelserver_running", "Sequences or inputs that are being computed"
        )
        self.waiting = self._gauge(
            "modelserver_waiting", "Sequences or inputs that wait for their turn"
        )
        self.failures = self._counter(
            "modelserver_backend_failures", "Requests that the model failed to compute"
        )

    def _define_life(self) -> None:
        self.load_seconds = self._gauge(
            "modelserver_load_seconds", "Time from start to the end of warm-up"
        )
        self.ready = self._gauge("modelserver_ready", "1 while new requests are wanted, else 0")
        self.evictions = self._counter(
            "modelserver_model_evictions", "Times that the model gave way to another one"
        )

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, _LABELS, registry=self._registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, _LABELS, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, _LABELS, buckets=buckets, registry=self._registry)


class ModelTelemetry:
    """One model's metrics; `model` and `revision` label every one of them."""

    def __init__(self, families: _Families, labels: tuple[str, str]) -> None:
        self._labels = labels
        self._requests = families.requests
        self._request_seconds = families.request_seconds
        self.in_flight = families.in_flight.labels(*labels)
        self.first_token_seconds = families.first_token_seconds.labels(*labels)
        self.inter_token_seconds = families.inter_token_seconds.labels(*labels)
        self.prompt_tokens = families.prompt_tokens.labels(*labels)
        self.generated_tokens = families.generated_tokens.labels(*labels)
        self.queue_seconds = families.queue_seconds.labels(*labels)
        self.step_seconds = families.step_seconds.labels(*labels)
        self.batch_size = families.batch_size.labels(*labels)
        self.running = families.running.labels(*labels)
        self.waiting = families.waiting.labels(*labels)
        self.failures = families.failures.labels(*labels)
        self.load_seconds = families.load_seconds.labels(*labels)
        self.ready = families.ready.labels(*labels)
        self.evictions = families.evictions.labels(*labels)

    def observe_request(self, route: str, code: int, seconds: float) -> None:
        """`route` is the template of a route, never a path that a client made up."""
        self._requests.labels(*self._labels, route, str(code)).inc()
        self._request_seconds.labels(*self._labels, route).observe(seconds)
