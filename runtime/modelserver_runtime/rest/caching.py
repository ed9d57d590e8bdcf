"""Cache-Control in, X-Cache and Age out: the words of HTTP for what the cache does."""

import math
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelserver_runtime.cache.exchange import Directives, Exchange, Outcome, exchanging
from modelserver_runtime.timing import current_request

type RawHeaders = list[tuple[bytes, bytes]]

_SAMPLED = "x-cache-sampled"
_FIRST_BAD_STATUS = 400


class Caching:
    """Between the boundary and the routes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with exchanging(Exchange(directives_of(Headers(scope=scope)))) as exchange:

            async def forward(message: Message) -> None:
                if message["type"] == "http.response.start":
                    # A copy: the message may be a constant of the application.
                    message = {**message, "headers": _with_outcome(exchange, message)}
                await send(message)

            await self._app(scope, receive, forward)


def directives_of(headers: Headers) -> Directives:
    """What is not understood is ignored, as RFC 9111 wants it."""
    said = dict(_directives(headers.getlist("cache-control")))
    max_age = _seconds(said.get("max-age"))
    return Directives(
        no_store="no-store" in said,
        only_if_cached="only-if-cached" in said,
        max_age_seconds=0.0 if "no-cache" in said else max_age,
        sampled=headers.get(_SAMPLED, "").strip().lower() in {"true", "1"},
    )


def _directives(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    for part in ",".join(lines).split(","):
        name, _, value = part.partition("=")
        yield name.strip().lower(), value.strip().strip('"')


def _seconds(value: str | None) -> float:
    is_number = value is not None and value.isascii() and value.isdecimal()
    return float(value or 0) if is_number else math.inf


def _with_outcome(exchange: Exchange, message: Message) -> RawHeaders:
    headers: RawHeaders = list(message.get("headers", ()))
    outcome = exchange.outcome
    if outcome is None:
        return headers
    if (timing := current_request.get()) is not None:
        timing.cache = outcome
    headers.append((b"x-cache", outcome.encode()))
    is_good = message["status"] < _FIRST_BAD_STATUS
    if outcome is Outcome.HIT and is_good:
        headers.append((b"age", b"%d" % exchange.age_seconds))
    # A stream has its own, against proxies that would collect it.
    if not any(name == b"cache-control" for name, _ in headers):
        is_kept = is_good and outcome is not Outcome.BYPASS
        control = b"private, max-age=%d" % exchange.seconds_left if is_kept else b"no-store"
        headers.append((b"cache-control", control))
    return headers
