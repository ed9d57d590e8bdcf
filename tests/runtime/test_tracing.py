"""Traces: what a collector receives about a request, and that nobody pays for them unasked."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from modelserver_runtime.settings import Settings
from support.fake_model import CountingBackend, fake_model
from support.otlp_collector import Collector, attributes_of, running_collector
from support.runtime_server import RunningServer, running_server

pytestmark = pytest.mark.slow

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)
    with running_collector() as collector:
        yield collector


def traced(collector: Collector, **body: Any) -> list[Any]:
    """The spans of one request, when the server has sent all it had."""
    settings = Settings(served_name="tiny", name="demo", otlp_endpoint=collector.url)
    with running_server(settings, fake_model(CountingBackend())) as server:
        ask(server, body)
        server.client.get("/livez")
        server.context.tracer.close()
    return collector.spans


def ask(server: RunningServer, body: dict[str, Any]) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "req-7"}
    server.client.post("/v1/chat/completions", json=body, headers=headers)
    # The spans are made right after the answer.
    while server.context.primary.telemetry.in_flight._value.get():
        server.call(lambda: None)


def by_name(spans: list[Any]) -> dict[str, Any]:
    return {span.name: span for span in spans}


def test_a_request_is_a_span_of_its_callers_trace_with_its_parts_inside(collector):
    spans = by_name(traced(collector, **CHAT))
    assert spans.keys() == {
        *("POST /v1/chat/completions", "tokenize", "queue", "prefill", "decode"),
    }
    whole = spans.pop("POST /v1/chat/completions")
    assert (whole.trace_id.hex(), whole.parent_span_id.hex()) == (TRACE, PARENT)
    for span in spans.values():
        assert (span.trace_id, span.parent_span_id) == (whole.trace_id, whole.span_id)
        assert whole.start_time_unix_nano <= span.start_time_unix_nano
        assert span.end_time_unix_nano <= whole.end_time_unix_nano
    assert spans["queue"].end_time_unix_nano == spans["prefill"].start_time_unix_nano
    assert collector.paths == {"/v1/traces"}
    assert collector.resources[0]["service.name"] == "modelserver-runtime"


def test_a_span_says_what_was_asked_of_which_model_and_nothing_of_the_text(collector):
    span = by_name(traced(collector, **CHAT))["POST /v1/chat/completions"]
    found = attributes_of(span)
    assert found.pop("gen_ai.server.time_to_first_token") > 0
    found.pop("modelserver.cache", None)
    assert found == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "modelserver.request_id": "req-7",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "modelserver",
        "gen_ai.request.model": "tiny",
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 3,
    }
    assert "hello" not in str(span)


def test_a_failure_of_the_server_is_an_error_of_the_span(collector):
    failing = {**CHAT, "messages": [{"role": "user", "content": "m"}]}  # token 13
    span = by_name(traced(collector, **failing))["POST /v1/chat/completions"]
    assert attributes_of(span)["error.type"] == "500"
    assert span.status.code == 2


def test_without_a_collector_nothing_that_traces_is_imported():
    code = (
        "import sys, time\n"
        "from modelserver_runtime.app.application import create_context\n"
        "from modelserver_runtime.settings import Settings\n"
        "context = create_context(Settings(), clock=time.monotonic, wall_clock=time.time)\n"
        "assert context.tracer is None\n"
        "ours = ('opentelemetry.sdk.trace', 'opentelemetry.exporter')\n"
        "print([name for name in sys.modules if name.startswith(ours)])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
