"""The outermost layer: ids, headers, sizes, metrics, the access log, and unexpected errors."""

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelserver_runtime.errors import RequestTooLarge
from modelserver_runtime.identifiers import random_hex
from modelserver_runtime.models.leases import Leases, leasing
from modelserver_runtime.observability.tracing import FinishedRequest
from modelserver_runtime.rest.context import ServerContext
from modelserver_runtime.rest.errors import CLIENT_CLOSED_REQUEST, internal_error, response_of
from modelserver_runtime.settings import Settings
from modelserver_runtime.timing import RequestTiming, current_request

log = logging.getLogger("modelserver_runtime.access")

type RawHeaders = list[tuple[bytes, bytes]]

# What a client may choose as its request's id; anything else could forge lines of the log.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_PROBES = frozenset(
    {
        *("/livez", "/ready", "/readyz", "/startupz", "/metrics", "/health"),
        *("/v2/health/live", "/v2/health/ready"),
    }
)
_DOCUMENTS = frozenset({"/docs", "/redoc", "/openapi.json"})
_UNKNOWN_ROUTE = "unknown"
# The router says so of requests that are asked a second time, whose answers nobody gets.
COPY = b"x-modelserver-shadow"
_READ_HEADERS = frozenset({b"x-request-id", b"content-length", b"traceparent", b"tracestate", COPY})


class Boundary:
    def __init__(self, app: ASGIApp, context: ServerContext) -> None:
        self._app = app
        self._context = context
        self._headers = static_headers(context.settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            exchange = _Exchange(self._app, self._context, scope, self._headers)
            await exchange.run(receive, send)
        else:
            await self._app(scope, receive, send)


def static_headers(settings: Settings) -> RawHeaders:
    """What every answer says to browsers: not to guess, not to frame, not to tell others."""
    headers = [
        (b"x-model-revision", settings.revision.encode("latin-1", "replace")),
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        (b"referrer-policy", b"no-referrer"),
    ]
    if settings.hsts_seconds:
        value = f"max-age={settings.hsts_seconds}; includeSubDomains"
        headers.append((b"strict-transport-security", value.encode()))
    return headers


class _Exchange:
    """One request and its answer."""

    def __init__(
        self, app: ASGIApp, context: ServerContext, scope: Scope, headers: RawHeaders
    ) -> None:
        self._app = app
        self._context = context
        self._scope = scope
        self._static_headers = headers
        self._status = 0
        self._leases = Leases()
        self._received = {name: value for name, value in scope["headers"] if name in _READ_HEADERS}
        self._timing = RequestTiming(_request_id(self._received), context.clock())

    async def run(self, receive: Receive, send: Send) -> None:
        in_flight = self._context.primary.telemetry.in_flight
        token = current_request.set(self._timing)
        # Whoever looks after the server is no load: by this number it is scaled, and put to sleep.
        load = 0 if self._scope["path"] in _PROBES else 1
        in_flight.inc(load)
        try:
            with leasing() as self._leases:
                await self._answer(receive, self._sender(send))
        finally:
            in_flight.dec(load)
            self._note()
            current_request.reset(token)

    async def _answer(self, receive: Receive, send: Send) -> None:
        limit = self._context.settings.max_body_bytes
        if _announced_size(self._received) > limit:
            refusal = response_of(_too_large(limit), self._scope["path"])
            await refusal(self._scope, receive, send)
            return
        try:
            await self._app(self._scope, _limited(receive, limit), send)
        except Exception:
            log.exception("A request failed")
            if not self._status:
                await internal_error(self._scope["path"])(self._scope, receive, send)

    def _sender(self, send: Send) -> Callable[[Message], Awaitable[None]]:
        async def forward(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._status = message["status"]
                # A copy: the message may be a constant of the application.
                message = {**message, "headers": [*message.get("headers", ()), *self._headers()]}
            await send(message)

        return forward

    def _headers(self) -> RawHeaders:
        headers = [(b"x-request-id", self._timing.request_id.encode()), *self._static_headers]
        if timing := server_timing(self._timing, self._context.clock()):
            headers.append((b"server-timing", timing))
        if self._context.lifecycle.is_draining:
            # A client that keeps connections then opens its next one to another pod.
            headers.append((b"connection", b"close"))
        return headers

    def _note(self) -> None:
        route = _route_of(self._scope)
        status = self._status or CLIENT_CLOSED_REQUEST
        ended = self._context.clock()
        model = self._leases.model or self._context.primary
        if is_copy(self._received):
            model.telemetry.observe_copy(route, status)
        else:
            model.telemetry.observe_request(route, status, ended - self._timing.arrived)
        if self._leases.model is not None:
            self._timing.model = self._leases.model.name
        self._log(route, status, ended)
        if self._context.tracer is not None and route not in _PROBES:
            self._context.tracer.record(self._finished(route, status, ended))

    def _log(self, route: str, status: int, ended: float) -> None:
        level = logging.DEBUG if route in _PROBES else logging.INFO
        if log.isEnabledFor(level):
            fields = self._fields(route, status, ended)
            log.log(
                level, "%s %s %d", self._scope["method"], route, status, extra={"fields": fields}
            )

    def _fields(self, route: str, status: int, ended: float) -> dict[str, Any]:
        """What is known about the exchange; never its path, headers or bodies."""
        timing = self._timing
        fields: dict[str, Any] = {
            "method": self._scope["method"],
            "route": route,
            "status": status,
            "seconds": round(ended - timing.arrived, 6),
            "client": (self._scope.get("client") or ("",))[0],
        }
        noted = ("model", "caller", "cache", "prompt_tokens", "generated_tokens")
        fields |= {name: value for name in noted if (value := getattr(timing, name))}
        for name, began, end in timing.parts():
            fields[f"{name}_seconds"] = round(end - began, 6)
        return fields

    def _finished(self, route: str, status: int, ended: float) -> FinishedRequest:
        return FinishedRequest(
            method=self._scope["method"],
            route=route,
            status=status,
            ended=ended,
            ended_at=self._context.wall_clock(),
            timing=self._timing,
            trace_headers={
                name: self._received[name.encode()].decode("latin-1")
                for name in ("traceparent", "tracestate")
                if name.encode() in self._received
            },
        )


def server_timing(timing: RequestTiming, now: float) -> bytes:
    """The work that is done when an answer begins, in milliseconds; a stream goes on after it."""
    parts = [f"{name};dur={(end - began) * 1000:.1f}" for name, began, end in timing.parts()]
    if timing.cache:
        parts.append(f"cache;desc={timing.cache}")
    if not parts:
        return b""
    return ", ".join([*parts, f"total;dur={(now - timing.arrived) * 1000:.1f}"]).encode()


def _route_of(scope: Scope) -> str:
    """The route's template: a path could be anything that a client makes up."""
    if scope["path"] in _DOCUMENTS:
        return str(scope["path"])
    return str(getattr(scope.get("route"), "path", _UNKNOWN_ROUTE))


def is_copy(headers: Mapping[bytes, bytes]) -> bool:
    return headers.get(COPY, b"").lower() == b"true"


def _request_id(headers: Mapping[bytes, bytes]) -> str:
    wanted = headers.get(b"x-request-id", b"").decode("latin-1")
    return wanted if _REQUEST_ID.fullmatch(wanted) else f"req-{random_hex(12)}"


def _announced_size(headers: Mapping[bytes, bytes]) -> int:
    size = headers.get(b"content-length", b"")
    return int(size) if size.isdigit() else 0


def _limited(receive: Receive, limit: int) -> Receive:
    """Counts a body that comes in chunks, whose size nobody announced."""
    received = 0

    async def limited() -> Any:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise _too_large(limit)
        return message

    return limited


def _too_large(limit: int) -> RequestTooLarge:
    return RequestTooLarge(
        f"The body is larger than {limit} bytes; send less, or raise MODELSERVER_MAX_BODY_BYTES"
    )
