"""The outermost layer: ids, headers, sizes, metrics, and the errors that nobody expected."""

import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelserver_runtime.errors import RequestTooLarge
from modelserver_runtime.models.leases import Leases, leasing
from modelserver_runtime.rest.context import ServerContext
from modelserver_runtime.rest.errors import CLIENT_CLOSED_REQUEST, internal_error, response_of

log = logging.getLogger("modelserver_runtime.access")

# What a client may choose as its request's id; anything else could forge lines of the log.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_PROBES = frozenset({"/livez", "/ready", "/readyz", "/startupz", "/metrics", "/health"})
_DOCUMENTS = frozenset({"/docs", "/redoc", "/openapi.json"})
_UNKNOWN_ROUTE = "unknown"


class Boundary:
    def __init__(self, app: ASGIApp, context: ServerContext) -> None:
        self._app = app
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await _Exchange(self._app, self._context, scope).run(receive, send)
        else:
            await self._app(scope, receive, send)


class _Exchange:
    """One request and its answer."""

    def __init__(self, app: ASGIApp, context: ServerContext, scope: Scope) -> None:
        self._app = app
        self._context = context
        self._scope = scope
        self._status = 0
        self._began = context.clock()
        self._request_id = _request_id(Headers(scope=scope))
        self._leases = Leases()

    async def run(self, receive: Receive, send: Send) -> None:
        in_flight = self._context.primary.telemetry.in_flight
        in_flight.inc()
        try:
            with leasing() as self._leases:
                await self._answer(receive, self._sender(send))
        finally:
            in_flight.dec()
            self._note()

    async def _answer(self, receive: Receive, send: Send) -> None:
        limit = self._context.settings.max_body_bytes
        if _announced_size(self._scope) > limit:
            await response_of(_too_large(limit))(self._scope, receive, send)
            return
        try:
            await self._app(self._scope, _limited(receive, limit), send)
        except Exception:
            log.exception("Request %s failed", self._request_id)
            if not self._status:
                await internal_error()(self._scope, receive, send)

    def _sender(self, send: Send) -> Callable[[Message], Awaitable[None]]:
        async def forward(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._status = message["status"]
                self._add_headers(MutableHeaders(scope=message))
            await send(message)

        return forward

    def _add_headers(self, headers: MutableHeaders) -> None:
        headers["x-request-id"] = self._request_id
        headers["x-model-revision"] = self._context.settings.revision
        if self._context.lifecycle.is_draining:
            # A client that keeps connections then opens its next one to another pod.
            headers["connection"] = "close"

    def _note(self) -> None:
        route = _route_of(self._scope)
        status = self._status or CLIENT_CLOSED_REQUEST
        seconds = self._context.clock() - self._began
        model = self._leases.model or self._context.primary
        model.telemetry.observe_request(route, status, seconds)
        level = logging.DEBUG if route in _PROBES else logging.INFO
        log.log(
            level,
            "%s %s %d %.3fs %s",
            self._scope["method"],
            route,
            status,
            seconds,
            self._request_id,
        )


def _route_of(scope: Scope) -> str:
    """The route's template: a path could be anything that a client makes up."""
    if scope["path"] in _DOCUMENTS:
        return str(scope["path"])
    return str(getattr(scope.get("route"), "path", _UNKNOWN_ROUTE))


def _request_id(headers: Headers) -> str:
    wanted = headers.get("x-request-id", "")
    return wanted if _REQUEST_ID.fullmatch(wanted) else f"req-{secrets.token_hex(12)}"


def _announced_size(scope: Scope) -> int:
    size = Headers(scope=scope).get("content-length", "")
    return int(size) if size.isdecimal() else 0


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
