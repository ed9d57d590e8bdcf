"""Traces of requests in OpenTelemetry's format, sent to a collector when one is named.

A request's spans are made when it is over, from the times that were noted on its way; so tracing
costs nothing before the answer is out. Prompts and answers are never part of a trace.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from modelserver_runtime.settings import Settings
from modelserver_runtime.timing import RequestTiming

_NANOSECONDS = 1_000_000_000
_SERVER_ERROR = 500
_TRACES_PATH = "/v1/traces"
# gen_ai.operation.name in OpenTelemetry's conventions.
_OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/completions": "text_completion",
    "/generate": "text_completion",
    "/v1/embeddings": "embeddings",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRequest:
    """`ended` is a reading of the monotonic clock, `ended_at` the Unix time of the same moment."""

    method: str
    route: str
    status: int
    ended: float
    ended_at: float
    timing: RequestTiming
    trace_headers: Mapping[str, str]

    def nanoseconds(self, reading: float) -> int:
        """Unix time of a reading of the monotonic clock."""
        return int((self.ended_at - (self.ended - reading)) * _NANOSECONDS)


class Tracer(Protocol):
    def record(self, request: FinishedRequest) -> None: ...

    def close(self) -> None:
        """Sends what is left."""
        ...


def make_tracer(settings: Settings) -> Tracer | None:
    """None without a collector; then nothing of OpenTelemetry is imported."""
    return _OpenTelemetry(settings) if settings.otlp_endpoint else None


class _OpenTelemetry:
    def __init__(self, settings: Settings) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        names = {
            "service.name": "modelserver-runtime",
            "service.instance.id": settings.metrics_name,
            "service.version": settings.revision,
        }
        # `create` lets OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win.
        self._provider = TracerProvider(resource=Resource.create(names), shutdown_on_exit=False)
        endpoint = settings.otlp_endpoint.rstrip("/").removesuffix(_TRACES_PATH) + _TRACES_PATH
        exporter = OTLPSpanExporter(endpoint=endpoint)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("modelserver_runtime")

    def record(self, request: FinishedRequest) -> None:
        from opentelemetry import trace  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        span = self._tracer.start_span(
            f"{request.method} {request.route}",
            context=TraceContextTextMapPropagator().extract(dict(request.trace_headers)),
            kind=trace.SpanKind.SERVER,
            start_time=request.nanoseconds(request.timing.arrived),
            attributes=dict(attributes_of(request)),
        )
        if request.status >= _SERVER_ERROR:
            span.set_status(trace.Status(trace.StatusCode.ERROR))
        inside = trace.set_span_in_context(span)
        for name, began, end in request.timing.parts():
            part = self._tracer.start_span(
                name, context=inside, start_time=request.nanoseconds(began)
            )
            part.end(request.nanoseconds(end))
        span.end(request.nanoseconds(request.ended))

    def close(self) -> None:
        self._provider.shutdown()


def attributes_of(request: FinishedRequest) -> Iterator[tuple[str, Any]]:
    """HTTP's and generative AI's semantic conventions; what is not known is left out."""
    timing = request.timing
    yield "http.request.method", request.method
    yield "http.route", request.route
    yield "http.response.status_code", request.status
    yield "modelserver.request_id", timing.request_id
    if request.status >= _SERVER_ERROR:
        yield "error.type", str(request.status)
    if operation := _OPERATIONS.get(request.route):
        yield "gen_ai.operation.name", operation
        yield "gen_ai.provider.name", "modelserver"
    known = {
        "gen_ai.request.model": timing.model,
        "gen_ai.usage.input_tokens": timing.prompt_tokens,
        "gen_ai.usage.output_tokens": timing.generated_tokens,
        "modelserver.cache": timing.cache,
        "enduser.id": timing.caller,
    }
    yield from ((name, value) for name, value in known.items() if value)
    if timing.first_token:
        yield "gen_ai.server.time_to_first_token", timing.first_token - timing.arrived
