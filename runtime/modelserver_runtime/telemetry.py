"""The runtime's metrics: every Prometheus object, in one place, with bounded labels."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

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
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

type Derive = Callable[[Iterable[Metric]], Iterable[Metric]]

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
# Where an answer was stored, and why one is stored no longer: labels of the response cache.
CACHE_LEVELS = ("memory", "shared")
CACHE_EVICTION_REASONS = ("entries", "bytes", "expired", "invalidated")

# When a series began, as a series of its own: nobody asks for it, and it doubles the page.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Telemetry:
    """The registry and its families; `of` gives the metrics of one model."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._families = _Families(self.registry)
        self._models: dict[tuple[str, str], ModelTelemetry] = {}
        self._derive: Derive = lambda _: ()
        self.models_loaded = Gauge(
            "modelserver_models_loaded", "Models that are in memory", registry=self.registry
        )
        self.redis_up = Gauge(
            "modelserver_redis_up",
            "1 if Redis answered when it was last asked, else 0",
            registry=self.registry,
        )
        self.redis_errors = Counter(
            "modelserver_redis_errors", "Times that Redis did not answer", registry=self.registry
        )
        self._define_access()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def _define_access(self) -> None:
        """Of keys by their ids, of which there are as many as an administrator has made."""
        registry = self.registry
        self._key_requests = Counter(
            "modelserver_key_requests", "Requests, by API key", ("key",), registry=registry
        )
        self._key_errors = Counter(
            "modelserver_key_errors",
            "Requests that were answered with an error, by API key",
            ("key",),
            registry=registry,
        )
        self._key_tokens = Counter(
            "modelserver_key_tokens",
            "Tokens, by API key and by kind: prompt or completion",
            ("key", "kind"),
            registry=registry,
        )
        self.rate_limited = Counter(
            "modelserver_rate_limited",
            "Requests over a limit of their key or address, by what is limited",
            ("unit",),
            registry=registry,
        )
        self.access_problems = Gauge(
            "modelserver_access_problems",
            "Key files and stores that cannot be used now",
            registry=registry,
        )

    def observe_key(self, key: str, *, is_error: bool, prompt: int, completion: int) -> None:
        self._key_requests.labels(key).inc()
        if is_error:
            self._key_errors.labels(key).inc()
        self._key_tokens.labels(key, "prompt").inc(prompt)
        self._key_tokens.labels(key, "completion").inc(completion)

    def forget_key(self, key: str) -> None:
        self._key_requests.remove_by_labels({"key": key})
        self._key_errors.remove_by_labels({"key": key})
        self._key_tokens.remove_by_labels({"key": key})

    def of(self, model: str, revision: str) -> "ModelTelemetry":
        """The same object for the same labels; only for models that are configured."""
        labels = (model, revision)
        if labels not in self._models:
            self._models[labels] = ModelTelemetry(self._families, labels)
        return self._models[labels]

    def show_also(self, derive: Derive) -> None:
        """`derive` makes more metrics of the present ones whenever they are read."""
        self._derive = derive

    def render(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its content type, in the format that the scraper prefers."""
        encode: Callable[[Collector], bytes]
        encode, content_type = exposition.choose_encoder(accept)
        present = list(self.registry.collect())
        return encode(_Page([*present, *self._derive(present)])), content_type


class _Page(Collector):
    """Metrics that have been read already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


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
        self.copies = self._counter(
            "modelserver_shadow_requests",
            "Copies of requests, whose answers nobody gets, by route and status code",
            *("route", "code"),
        )
        self.in_flight = self._gauge(
            "modelserver_inflight_requests", "Requests that are being answered"
        )
        self._define_generation()
        self._define_queue()
        self._define_engine()
        self._define_batches()
        self._define_life()
        self._define_cache()

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
        self.speculated_tokens = self._counter(
            "modelserver_speculated_tokens", "Tokens that were computed on a guess"
        )
        self.accepted_tokens = self._counter(
            "modelserver_accepted_tokens", "Of speculated_tokens, those that were guessed rightly"
        )

    def _define_queue(self) -> None:
        self.queue_seconds = Histogram(
            "modelserver_queue_seconds",
            "Time that a request waited for its turn",
            (*_LABELS, "priority"),
            buckets=_REQUEST_BUCKETS,
            registry=self._registry,
        )
        self.queue_depth = self._gauge(
            "modelserver_queue_depth", "Requests that wait for their turn", "priority"
        )
        self.refusals = self._counter(
            "modelserver_refusals", "Requests that were given no turn, by why", "reason"
        )
        self.circuits = self._gauge(
            "modelserver_circuit_state", "0 closed, 1 half open, 2 open", "failure"
        )
        self.openings = self._counter(
            "modelserver_circuit_openings", "Times that a circuit opened", "failure"
        )

    def _define_engine(self) -> None:
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
        self.preemptions = self._counter(
            "modelserver_preemptions",
            "Times that a sequence gave its memory back and was computed again",
        )
        self.failures = self._counter(
            "modelserver_backend_failures", "Requests that the model failed to compute"
        )

    def _define_batches(self) -> None:
        self.batch_wait_seconds = self._histogram(
            "modelserver_batch_wait_seconds",
            "Time that a batch was held open for more inputs",
            _REQUEST_BUCKETS,
        )
        self.batch_cost = self._counter(
            "modelserver_batch_cost", "Inputs that were computed, by their lengths with padding"
        )
        self.batch_padding = self._counter(
            "modelserver_batch_padding", "Of batch_cost, what only made inputs equally long"
        )
        self.duplicates = self._counter(
            "modelserver_duplicate_inputs", "Inputs that were not computed, as an equal one was"
        )

    def _define_life(self) -> None:
        self.load_seconds = self._gauge(
            "modelserver_load_seconds", "Time from start to the end of warm-up"
        )
        self.ready = self._gauge("modelserver_ready", "1 while new requests are wanted, else 0")
        self.evictions = self._counter(
            "modelserver_model_evictions", "Times that the model gave way to another one"
        )

    def _define_cache(self) -> None:
        self.cache_hits = self._counter(
            "modelserver_cache_hits", "Answers that were stored, in memory or shared", "level"
        )
        self.cache_misses = self._counter(
            "modelserver_cache_misses", "Answers that had to be computed, and may be kept"
        )
        self.cache_coalesced = self._counter(
            "modelserver_cache_coalesced", "Answers that were being computed for another request"
        )
        self.cache_bypassed = self._counter(
            "modelserver_cache_bypassed", "Answers that are not to be kept"
        )
        self.cache_evictions = self._counter(
            "modelserver_cache_evictions",
            "Answers that left memory: entries, bytes, expired, invalidated",
            "reason",
        )
        self.cache_entries = self._gauge("modelserver_cache_entries", "Answers in memory")
        self.cache_bytes = self._gauge("modelserver_cache_bytes", "Memory that answers take")
        self.cache_tokens_saved = self._counter(
            "modelserver_cache_saved_tokens", "Tokens that were not computed again"
        )
        self.cache_shared_errors = self._counter(
            "modelserver_cache_shared_errors",
            "Times that shared answers could not be read, written or understood",
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, (*_LABELS, *labels), registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, (*_LABELS, *labels), registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, _LABELS, buckets=buckets, registry=self._registry)


class ModelTelemetry:
    """One model's metrics; `model` and `revision` label every one of them."""

    def __init__(self, families: _Families, labels: tuple[str, str]) -> None:
        self._labels = labels
        self._requests = families.requests
        self._request_seconds = families.request_seconds
        self._copies = families.copies
        self.in_flight = families.in_flight.labels(*labels)
        self.first_token_seconds = families.first_token_seconds.labels(*labels)
        self.inter_token_seconds = families.inter_token_seconds.labels(*labels)
        self._read_tokens(families, labels)
        self._queue_seconds = families.queue_seconds
        self._queue_depth = families.queue_depth
        self._refusals = families.refusals
        self._circuits = families.circuits
        self._openings = families.openings
        self._waits: dict[str, Histogram] = {}
        self._waiting_at: dict[str, int] = {}
        self.step_seconds = families.step_seconds.labels(*labels)
        self.batch_size = families.batch_size.labels(*labels)
        self.running = families.running.labels(*labels)
        self.waiting = families.waiting.labels(*labels)
        self.preemptions = families.preemptions.labels(*labels)
        self.failures = families.failures.labels(*labels)
        self.batch_wait_seconds = families.batch_wait_seconds.labels(*labels)
        self.batch_cost = families.batch_cost.labels(*labels)
        self.batch_padding = families.batch_padding.labels(*labels)
        self.duplicates = families.duplicates.labels(*labels)
        self.load_seconds = families.load_seconds.labels(*labels)
        self.ready = families.ready.labels(*labels)
        self.evictions = families.evictions.labels(*labels)
        self._read_cache(families, labels)

    def _read_tokens(self, families: _Families, labels: tuple[str, str]) -> None:
        self.prompt_tokens = families.prompt_tokens.labels(*labels)
        self.generated_tokens = families.generated_tokens.labels(*labels)
        self.speculated_tokens = families.speculated_tokens.labels(*labels)
        self.accepted_tokens = families.accepted_tokens.labels(*labels)

    def _read_cache(self, families: _Families, labels: tuple[str, str]) -> None:
        self.cache_hits = {
            level: families.cache_hits.labels(*labels, level) for level in CACHE_LEVELS
        }
        self.cache_evictions = {
            reason: families.cache_evictions.labels(*labels, reason)
            for reason in CACHE_EVICTION_REASONS
        }
        self.cache_misses = families.cache_misses.labels(*labels)
        self.cache_coalesced = families.cache_coalesced.labels(*labels)
        self.cache_bypassed = families.cache_bypassed.labels(*labels)
        self.cache_entries = families.cache_entries.labels(*labels)
        self.cache_bytes = families.cache_bytes.labels(*labels)
        self.cache_tokens_saved = families.cache_tokens_saved.labels(*labels)
        self.cache_shared_errors = families.cache_shared_errors.labels(*labels)

    def observe_request(self, route: str, code: int, seconds: float) -> None:
        """`route` is the template of a route, never a path that a client made up."""
        self._requests.labels(*self._labels, route, str(code)).inc()
        self._request_seconds.labels(*self._labels, route).observe(seconds)

    def observe_copy(self, route: str, code: int) -> None:
        """A copy is no client's request: it has no part in the counts and times of these."""
        self._copies.labels(*self._labels, route, str(code)).inc()

    def observe_wait(self, priority: str, seconds: float) -> None:
        """For every request, so the child is looked up once."""
        wait = self._waits.get(priority)
        if wait is None:
            wait = self._waits[priority] = self._queue_seconds.labels(*self._labels, priority)
        wait.observe(seconds)

    def note_queue(self, priority: str, waiting: int) -> None:
        """How many requests of a priority wait for their turn."""
        self._queue_depth.labels(*self._labels, priority).set(waiting)
        self.note_waiting(priority, waiting)

    def note_waiting(self, place: str, count: int) -> None:
        """`waiting` is the sum over the places where something may wait."""
        self._waiting_at[place] = count
        self.waiting.set(sum(self._waiting_at.values()))

    def count_refusal(self, reason: str) -> None:
        self._refusals.labels(*self._labels, reason).inc()

    def watch_circuits(self, levels: Callable[[], Mapping[str, int]]) -> None:
        """`levels` are asked for whenever the metrics are read."""
        for name in levels():
            gauge = self._circuits.labels(*self._labels, name)
            gauge.set_function(partial(_level, levels, name))

    def count_opening(self, failure: str) -> None:
        self._openings.labels(*self._labels, failure).inc()


def _level(levels: Callable[[], Mapping[str, int]], name: str) -> int:
    return levels()[name]
