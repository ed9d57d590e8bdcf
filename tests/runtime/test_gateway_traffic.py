"""What each model was asked at the gateway: totals, the last minute, and Prometheus' view of it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from modelserver_runtime.gateway.cluster import Directory, ServedModel, ServerKey
from modelserver_runtime.gateway.counts import EDGES_SECONDS, Histogram
from modelserver_runtime.gateway.front.traffic_metrics import TrafficCollector
from modelserver_runtime.gateway.traffic import SLOT_SECONDS, SLOTS, Recent, Traffic, quantile

KEY = ServerKey("models", "chat")


class Clock:
    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def traffic(clock):
    return Traffic(clock)


def ask(traffic, clock, *, status=200, seconds=0.1, is_broken=False):
    call = traffic.begin(KEY)
    call.is_broken = is_broken
    clock.now += seconds
    call.end(status, clock.now)


def test_a_model_that_nobody_asked_has_no_latency(traffic):
    assert traffic.recent(KEY) == Recent()
    assert Recent().p50_seconds is None


def test_rates_and_latencies_are_those_of_the_last_minute(traffic, clock):
    clock.now = 2000.0
    for _ in range(60):
        ask(traffic, clock, seconds=1.0)
    recent = traffic.recent(KEY)
    assert recent.per_second == pytest.approx(1.0, rel=0.05)
    assert recent.p50_seconds == pytest.approx(1.0, rel=0.3)
    clock.now += 60
    assert traffic.recent(KEY).per_second == 0
    assert traffic.recent(KEY).p95_seconds is None
    assert sum(traffic.recent(KEY).history) > 0  # of two minutes
    clock.now += SLOTS * SLOT_SECONDS
    assert traffic.recent(KEY).history == (0,) * SLOTS


def test_the_rate_of_a_young_gateway_is_that_of_the_time_it_had(traffic, clock):
    for _ in range(20):
        ask(traffic, clock, seconds=0.5)
    assert traffic.recent(KEY).per_second == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("end", "code", "counted"),
    [
        ({"status": 200}, "2xx", (1, 0)),
        ({"status": 404}, "4xx", (1, 0)),
        ({"status": 503}, "5xx", (1, 1)),
        ({"status": 200, "is_broken": True}, "broken", (1, 1)),
        ({"status": 0}, "none", (0, 0)),
    ],
)
def test_each_end_is_counted_once(traffic, clock, end, code, counted):
    ask(traffic, clock, **end)
    recent = traffic.recent(KEY)
    assert (recent.answered, recent.failed) == counted
    assert recent.in_flight == 0
    assert traffic.models[KEY].classes == {code: 1}


def test_requests_under_way_are_counted(traffic):
    calls = [traffic.begin(KEY) for _ in range(3)]
    assert traffic.recent(KEY).in_flight == 3
    calls[0].end(200, traffic.clock())
    assert traffic.recent(KEY).in_flight == 2


def test_servers_that_are_gone_are_forgotten(traffic, clock):
    ask(traffic, clock)
    other = ServedModel(key=ServerKey("models", "other"), names=("other",))
    traffic.follow(Directory.of([other]))
    assert not traffic.models


def test_prometheus_is_told_the_same(traffic, clock):
    ask(traffic, clock, seconds=0.12)
    ask(traffic, clock, status=503, seconds=7)
    traffic.begin(KEY)
    registry = CollectorRegistry()
    registry.register(TrafficCollector(traffic))
    text = generate_latest(registry).decode()
    server = 'namespace="models",server="chat"'
    assert f'modelserver_gateway_requests_total{{code="2xx",{server}}} 1.0' in text
    assert f'modelserver_gateway_requests_total{{code="5xx",{server}}} 1.0' in text
    assert f"modelserver_gateway_inflight_requests{{{server}}} 1.0" in text
    bucket = "modelserver_gateway_request_duration_seconds_bucket"
    assert f'{bucket}{{le="0.15",{server}}} 1.0' in text
    assert f'{bucket}{{le="+Inf",{server}}} 2.0' in text


@given(
    st.lists(st.floats(min_value=0, max_value=300), min_size=1, max_size=30),
    st.sampled_from([0.5, 0.95]),
)
def test_a_quantile_lies_in_the_bucket_of_the_value_that_has_the_rank(seconds, share):
    histogram = Histogram()
    for one in seconds:
        histogram.observe(one)
    found = quantile(histogram.buckets, share)
    exact = sorted(seconds)[math.ceil(share * len(seconds)) - 1]
    above = next(edge for edge in EDGES_SECONDS if edge >= exact)
    below = max((edge for edge in EDGES_SECONDS if edge < exact), default=0.0)
    assert below <= found <= above


def test_beyond_the_last_edge_nothing_better_is_known_than_the_edge():
    histogram = Histogram()
    histogram.observe(10_000)
    assert quantile(histogram.buckets, 0.5) == EDGES_SECONDS[-1]
    assert quantile([0] * len(histogram.buckets), 0.5) is None
