"""Our failures as HTTP answers: one table, one shape."""

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from modelserver_runtime.errors import (
    BackendFailure,
    CircuitOpen,
    Conflict,
    ContextLengthExceeded,
    DeadlineUnreachable,
    InvalidRequest,
    KeysUnavailable,
    ModelNotFound,
    ModelUnavailable,
    NotAuthenticated,
    NotCached,
    NotPermitted,
    NotReady,
    Overloaded,
    QueueTimeout,
    RateLimited,
    RequestFailure,
    RequestTimeout,
    RequestTooLarge,
    ResourceNotFound,
    TaskNotSupported,
    UnsupportedMedia,
)
from modelserver_runtime.rest.disconnect import ClientDisconnected
from modelserver_runtime.rest.schemas.errors import ErrorBody, ErrorDetail, ErrorV2

# Nobody reads it; it tells the metrics that the client did not wait.
CLIENT_CLOSED_REQUEST = 499
# More problems than this in one sentence help nobody.
_MOST_PROBLEMS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """`should_retry` becomes x-should-retry; None lets clients decide by the status."""

    status: int
    type: str
    code: str | None = None
    should_retry: bool | None = None


_INVALID = "invalid_request_error"
TABLE: Mapping[type[RequestFailure], Mapped] = {
    InvalidRequest: Mapped(status=400, type=_INVALID),
    ContextLengthExceeded: Mapped(status=400, type=_INVALID, code="context_length_exceeded"),
    TaskNotSupported: Mapped(status=400, type=_INVALID, code="task_not_supported"),
    NotAuthenticated: Mapped(status=401, type="authentication_error", code="invalid_api_key"),
    NotPermitted: Mapped(status=403, type="permission_error", code="insufficient_permissions"),
    ModelNotFound: Mapped(status=404, type=_INVALID, code="model_not_found"),
    ResourceNotFound: Mapped(status=404, type=_INVALID, code="not_found"),
    Conflict: Mapped(status=409, type=_INVALID, code="conflict"),
    RequestTooLarge: Mapped(status=413, type=_INVALID, code="request_too_large"),
    UnsupportedMedia: Mapped(status=415, type=_INVALID, code="unsupported_media_type"),
    RateLimited: Mapped(status=429, type="rate_limit_error", code="rate_limit_exceeded"),
    Overloaded: Mapped(status=429, type="rate_limit_error", code="queue_full"),
    DeadlineUnreachable: Mapped(status=429, type="rate_limit_error", code="deadline_unreachable"),
    BackendFailure: Mapped(status=500, type="server_error", code="backend_failure"),
    NotReady: Mapped(status=503, type="server_error", code="not_ready"),
    KeysUnavailable: Mapped(status=503, type="server_error", code="keys_unavailable"),
    ModelUnavailable: Mapped(status=503, type="server_error", code="model_unavailable"),
    CircuitOpen: Mapped(status=503, type="server_error", code="circuit_open"),
    # Nothing was begun, so it may be sent again; 408 would blame the client for being slow.
    QueueTimeout: Mapped(status=504, type="server_error", code="queue_timeout"),
    NotCached: Mapped(status=504, type=_INVALID, code="not_cached", should_retry=False),
    # The same request would take as long again.
    RequestTimeout: Mapped(status=504, type="server_error", code="timeout", should_retry=False),
}
_OF_STATUS = {
    404: Mapped(status=404, type=_INVALID, code="not_found"),
    405: Mapped(status=405, type=_INVALID, code="method_not_allowed"),
    500: Mapped(status=500, type="server_error", code="internal_error"),
}


def detail_of(failure: RequestFailure) -> ErrorDetail:
    mapped = TABLE[type(failure)]
    return ErrorDetail(
        message=failure.message, type=mapped.type, param=failure.param, code=mapped.code
    )


def response_of(failure: RequestFailure, path: str = "") -> Response:
    """In the shape of the protocol that the path belongs to."""
    mapped = TABLE[type(failure)]
    headers = {}
    if failure.retry_after_seconds is not None:
        headers["retry-after"] = str(math.ceil(failure.retry_after_seconds))
        headers["retry-after-ms"] = str(math.ceil(failure.retry_after_seconds * 1000))
    should_retry = mapped.should_retry if failure.should_retry is None else failure.should_retry
    if should_retry is not None:
        headers["x-should-retry"] = str(should_retry).lower()
    if mapped.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = 'Bearer realm="modelserver"'
    return _response(mapped.status, detail_of(failure), headers, path)


def internal_error(path: str = "") -> Response:
    """For what should not happen; the log has the rest."""
    mapped = _OF_STATUS[500]
    message = "The server failed while answering this request; its log says why"
    detail = ErrorDetail(message=message, type=mapped.type, code=mapped.code)
    return _response(500, detail, {}, path)


def _response(status: int, detail: ErrorDetail, headers: Mapping[str, str], path: str) -> Response:
    is_v2 = path == "/v2" or path.startswith("/v2/")
    body = ErrorV2(error=detail.message) if is_v2 else ErrorBody(error=detail)
    return Response(
        body.model_dump_json(),
        status_code=status,
        media_type="application/json",
        headers=dict(headers),
    )


def install_error_handlers(app: FastAPI) -> None:
    handlers: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {
        RequestFailure: _on_failure,
        RequestValidationError: _on_validation_error,
        HTTPException: _on_http_exception,
        ClientDisconnected: _on_disconnect,
        # Starlette raises it again after that; the boundary then logs it.
        Exception: _on_surprise,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


async def _on_failure(request: Request, failure: RequestFailure) -> Response:
    return response_of(failure, request.url.path)


async def _on_surprise(request: Request, _: Exception) -> Response:
    return internal_error(request.url.path)


async def _on_validation_error(request: Request, error: RequestValidationError) -> Response:
    return response_of(invalid_request(error.errors()), request.url.path)


async def _on_http_exception(request: Request, error: HTTPException) -> Response:
    if isinstance(error.__cause__, RequestFailure):
        # FastAPI wraps what is raised while it reads a body.
        return response_of(error.__cause__, request.url.path)
    mapped = _OF_STATUS.get(error.status_code) or Mapped(status=error.status_code, type=_INVALID)
    message = _http_message(request, error)
    detail = ErrorDetail(message=message, type=mapped.type, code=mapped.code)
    return _response(error.status_code, detail, error.headers or {}, request.url.path)


def _http_message(request: Request, error: HTTPException) -> str:
    path = request.url.path
    match error.status_code:
        case 404:
            return f"There is no route {path}; /docs lists the routes"
        case 405:
            allowed = (error.headers or {}).get("Allow", "another method")
            return f"{path} does not take {request.method}; use {allowed}"
        case 400:
            return f"The body could not be read as JSON: {error.__cause__ or error.detail}"
        case _:
            return str(error.detail)


async def _on_disconnect(_: Request, __: ClientDisconnected) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)


def invalid_request(problems: Any) -> InvalidRequest:
    """One sentence of pydantic's problems; `param` is the first field at fault."""
    shown = [_sentence(problem) for problem in problems[:_MOST_PROBLEMS]]
    more = len(problems) - len(shown)
    sentence = "; ".join(dict.fromkeys(shown)) + (f"; and {more} more" if more > 0 else "")
    is_json = problems[0]["type"] != "json_invalid"
    return InvalidRequest(sentence, param=(is_json and _path(problems[0]["loc"])) or None)


def _sentence(problem: Mapping[str, Any]) -> str:
    if problem["type"] == "json_invalid":
        reason = problem.get("ctx", {}).get("error", problem["msg"])
        return f"The body is not valid JSON: {reason}"
    path = _path(problem["loc"])
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{path} is missing" if path else "The body is missing; send a JSON object"
    return f"{path}: {message}" if path else f"The body: {message}"


def _path(location: tuple[int | str, ...]) -> str:
    """Without FastAPI's `body`, and without the names that pydantic gives to parts of a union."""
    parts = [str(part) for part in location[1:] if not _is_union_member(part)]
    return ".".join(parts)


def _is_union_member(part: int | str) -> bool:
    if not isinstance(part, str) or part.isdecimal():
        return False
    return not part.isidentifier() or part in _UNION_MEMBERS


_UNION_MEMBERS = frozenset({"str", "int", "bool", "float", "TextPair", "Text"})
