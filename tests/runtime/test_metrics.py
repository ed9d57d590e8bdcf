"""Metrics: other names that cannot disagree with ours, and how busy the machine is."""

import re
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from modelserver_runtime.observability.aliases import ALIASES, derive
from modelserver_runtime.observability.hardware import Accelerator, HardwareCollector
from modelserver_runtime.settings.telemetry import MetricsAlias
from modelserver_runtime.telemetry import Telemetry

# Dashboards ask for these names.
HF_SERVER_NAMES = {
    "hf_server_requests_total",
    "hf_server_request_duration_seconds",
    "hf_server_errors_total",
    "hf_server_models_loaded",
    "hf_server_model_load_duration_seconds",
    "hf_server_cache_hits_total",
    "hf_server_cache_misses_total",
    "hf_server_hardware_utilization",
    "hf_server_memory_usage_bytes",
}
VLLM_NAMES = {
    "vllm:num_preemptions_total",
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:time_to_first_token_seconds",
    "vllm:inter_token_latency_seconds",
    "vllm:e2e_request_latency_seconds",
    "vllm:request_queue_time_seconds",
    "vllm:admission_rejections_total",
}


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def telemetry() -> Telemetry:
    made = Telemetry()
    made.registry.register(HardwareCollector(processors=2, clock=Hand(), used_seconds=Hand()))
    model = made.of("demo", "5d9f7c1a")
    for route, code, seconds in [
        ("/v1/chat/completions", 200, 0.2),
        ("/v1/chat/completions", 200, 0.3),
        ("/v1/chat/completions", 400, 0.001),
        ("/generate", 503, 0.001),
        ("/livez", 200, 0.001),
    ]:
        model.observe_request(route, code, seconds)
    model.cache_hits["memory"].inc(2)
    model.cache_hits["shared"].inc(3)
    model.generated_tokens.inc(7)
    model.running.set(4)
    model.observe_wait("NORMAL", 0.5)
    model.observe_wait("HIGH", 0.1)
    model.count_refusal("queue_full")
    return made


def page(telemetry: Telemetry, *sets: MetricsAlias) -> str:
    telemetry.show_also(lambda metrics: derive(metrics, sets))
    content, content_type = telemetry.render("")
    assert content_type.startswith("text/plain")
    return content.decode()


def names(text: str) -> set[str]:
    return set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))


def samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def value(text: str, name: str, **labels: str) -> float:
    found = [
        number
        for other, these, number in samples(text)
        if other == name and labels.items() <= these.items()
    ]
    assert len(found) == 1, (name, labels, found)
    return found[0]


def test_aliases_are_shown_only_when_they_are_wanted(telemetry):
    plain = names(page(telemetry))
    assert not [
        name for name in plain if not name.startswith(("modelserver_", "process", "python"))
    ]
    assert names(page(telemetry, MetricsAlias.HF_SERVER)) - plain == HF_SERVER_NAMES
    assert names(page(telemetry, MetricsAlias.VLLM)) - plain == VLLM_NAMES
    assert names(page(telemetry, *MetricsAlias)) - plain == HF_SERVER_NAMES | VLLM_NAMES


def test_every_alias_stands_for_a_metric_that_there_is(telemetry):
    ours = {metric.name: metric for metric in telemetry.registry.collect()}
    for alias in [alias for aliases in ALIASES.values() for alias in aliases]:
        assert alias.of in ours, alias.name


def test_our_own_page_is_the_same_with_and_without_aliases(telemetry):
    ours = page(telemetry)
    both = page(telemetry, *MetricsAlias)
    measured = ("python_gc", "process_")
    kept = [line for line in ours.splitlines() if not line.startswith(measured)]
    assert set(kept) <= set(both.splitlines())


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("hf_server_requests_total", {"route": "/v1/chat/completions", "code": "200"}, 2),
        ("hf_server_errors_total", {"route": "/generate", "code": "503"}, 1),
        ("hf_server_errors_total", {"route": "/v1/chat/completions", "code": "400"}, 1),
        ("hf_server_request_duration_seconds_count", {"route": "/livez"}, 1),
        ("hf_server_cache_hits_total", {"model": "demo", "revision": "5d9f7c1a"}, 5),
        ("hf_server_models_loaded", {}, 0),
        ("hf_server_hardware_utilization", {"device": "cpu"}, 0),
        ("vllm:num_requests_running", {"model_name": "demo", "engine": "0"}, 4),
        ("vllm:generation_tokens_total", {"model_name": "demo"}, 7),
        ("vllm:e2e_request_latency_seconds_count", {"model_name": "demo"}, 4),
        ("vllm:e2e_request_latency_seconds_bucket", {"model_name": "demo", "le": "0.25"}, 3),
        ("vllm:request_queue_time_seconds_count", {"model_name": "demo"}, 2),
        ("vllm:request_queue_time_seconds_sum", {"model_name": "demo"}, 0.6),
        ("vllm:admission_rejections_total", {"reason": "queue_full"}, 1),
    ],
)
def test_an_alias_is_the_sum_of_ours(telemetry, name, labels, expected):
    assert value(page(telemetry, *MetricsAlias), name, **labels) == pytest.approx(expected)


def test_added_histograms_are_histograms_still(telemetry):
    text = page(telemetry, *MetricsAlias)
    buckets = [
        number
        for name, _, number in samples(text)
        if name == "vllm:e2e_request_latency_seconds_bucket"
    ]
    assert buckets == sorted(buckets)
    assert buckets[-1] == value(text, "vllm:e2e_request_latency_seconds_count", engine="0")


def test_a_scraper_that_prefers_open_metrics_gets_them(telemetry):
    telemetry.show_also(lambda metrics: derive(metrics, MetricsAlias))
    content, content_type = telemetry.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert content.endswith(b"# EOF\n")


def utilization(collector: HardwareCollector, device: str = "cpu") -> float:
    [family] = [one for one in collector.collect() if one.name.endswith("utilization")]
    [sample] = [one for one in family.samples if one.labels == {"device": device}]
    return sample.value


def test_utilization_is_the_used_part_of_the_time_between_two_scrapes():
    clock, used = Hand(), Hand()
    collector = HardwareCollector(processors=4, clock=clock, used_seconds=used)
    clock.now, used.now = 10.0, 20.0
    assert utilization(collector) == 0.5
    clock.now, used.now = 20.0, 20.0
    assert utilization(collector) == 0.0
    clock.now, used.now = 30.0, 70.0  # a measurement that cannot be
    assert utilization(collector) == 1.0


def test_a_second_scraper_sees_the_same_measurement():
    clock, used = Hand(), Hand()
    collector = HardwareCollector(processors=1, clock=clock, used_seconds=used)
    clock.now, used.now = 10.0, 5.0
    assert utilization(collector) == 0.5
    clock.now = 10.5
    assert utilization(collector) == 0.5


def test_accelerators_show_their_memory_and_what_their_driver_tells():
    devices = [
        Accelerator(device="cuda:0", used_bytes=3, total_bytes=8, utilization=0.25),
        Accelerator(device="cuda:1", used_bytes=1, total_bytes=8),
    ]
    collector = HardwareCollector(processors=1, clock=Hand(), accelerators=lambda: devices)
    assert utilization(collector, "cuda:0") == 0.25
    found = {
        (family.name, sample.labels["device"]): sample.value
        for family in collector.collect()
        for sample in family.samples
    }
    assert ("modelserver_hardware_utilization", "cuda:1") not in found
    assert found["modelserver_accelerator_memory_used_bytes", "cuda:0"] == 3
    assert found["modelserver_accelerator_memory_bytes", "cuda:1"] == 8
