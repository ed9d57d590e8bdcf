"""Our metrics under names that dashboards know already, computed when the metrics are read.

An alias counts nothing itself: its values are sums of ours, so that the two cannot disagree.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from modelserver_runtime.settings.telemetry import MetricsAlias

type Labels = Mapping[str, str]

_GENERATING = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses", "/generate"})
_CLIENT_ERROR = 400
_SAME: Mapping[str, str] = {"model": "model", "revision": "revision"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """`labels` are those that stay, by the name they get; what differs in others is added up.

    `fixed` are labels that every series has, and `includes` says which of our series count.
    """

    name: str
    of: str
    labels: Mapping[str, str] = field(default_factory=lambda: _SAME)
    fixed: Mapping[str, str] = field(default_factory=dict)
    includes: Callable[[Labels], bool] = lambda _: True
    text: str = ""


def _is_error(labels: Labels) -> bool:
    return int(labels["code"]) >= _CLIENT_ERROR


def _generates(labels: Labels) -> bool:
    return labels["route"] in _GENERATING


def _hf(name: str, of: str, *more: str) -> Alias:
    labels = {**_SAME, **{label: label for label in more}}
    return Alias(name=f"hf_server_{name}", of=of, labels=labels)


def _vllm(name: str, of: str, *more: str) -> Alias:
    """vLLM numbers its engines; we have one for each model."""
    labels = {"model": "model_name"} | {label: label for label in more}
    return Alias(name=f"vllm:{name}", of=of, labels=labels, fixed={"engine": "0"})


ALIASES: Mapping[MetricsAlias, tuple[Alias, ...]] = {
    MetricsAlias.HF_SERVER: (
        _hf("requests", "modelserver_requests", "route", "code"),
        _hf("request_duration_seconds", "modelserver_request_duration_seconds", "route"),
        Alias(
            name="hf_server_errors",
            of="modelserver_requests",
            labels={**_SAME, "route": "route", "code": "code"},
            includes=_is_error,
            text="Requests that were answered with a status from 400",
        ),
        _hf("models_loaded", "modelserver_models_loaded"),
        _hf("model_load_duration_seconds", "modelserver_load_seconds"),
        _hf("cache_hits", "modelserver_cache_hits"),
        _hf("cache_misses", "modelserver_cache_misses"),
        _hf("hardware_utilization", "modelserver_hardware_utilization", "device"),
        _hf("memory_usage_bytes", "process_resident_memory_bytes"),
    ),
    MetricsAlias.VLLM: (
        _vllm("num_requests_running", "modelserver_running"),
        _vllm("num_requests_waiting", "modelserver_waiting"),
        _vllm("num_preemptions", "modelserver_preemptions"),
        _vllm("prompt_tokens", "modelserver_prompt_tokens"),
        _vllm("generation_tokens", "modelserver_generated_tokens"),
        _vllm("time_to_first_token_seconds", "modelserver_time_to_first_token_seconds"),
        _vllm("inter_token_latency_seconds", "modelserver_inter_token_seconds"),
        Alias(
            name="vllm:e2e_request_latency_seconds",
            of="modelserver_request_duration_seconds",
            labels={"model": "model_name"},
            fixed={"engine": "0"},
            includes=_generates,
        ),
        _vllm("request_queue_time_seconds", "modelserver_queue_seconds"),
        _vllm("admission_rejections", "modelserver_refusals", "reason"),
    ),
}


def derive(metrics: Iterable[Metric], sets: Iterable[MetricsAlias]) -> Iterator[Metric]:
    """The aliases of the sets, in the order of the table."""
    ours = {metric.name: metric for metric in metrics}
    for name in sets:
        for alias in ALIASES[name]:
            if alias.of in ours:
                yield _renamed(ours[alias.of], alias)


def _renamed(metric: Metric, alias: Alias) -> Metric:
    renamed = Metric(alias.name, alias.text or metric.documentation, metric.type, metric.unit)
    renamed.samples = list(_added_up(metric, alias))
    return renamed


def _added_up(metric: Metric, alias: Alias) -> Iterator[Sample]:
    """Histograms too: counts of the same bucket may be added."""
    totals: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for sample in metric.samples:
        if alias.includes(sample.labels):
            suffix = sample.name.removeprefix(metric.name)
            key = (suffix, tuple(_labels(sample.labels, alias)))
            totals[key] = totals.get(key, 0.0) + sample.value
    for (suffix, labels), value in totals.items():
        yield Sample(alias.name + suffix, dict(labels), value)


def _labels(labels: Labels, alias: Alias) -> Iterator[tuple[str, str]]:
    yield from alias.fixed.items()
    kept = {**alias.labels, "le": "le"}  # the bucket of a histogram
    yield from ((kept[name], value) for name, value in labels.items() if name in kept)
