"""Our failures as answers: which status and code each has."""

from typing import NamedTuple

import orjson

from modelserver_runtime.errors import (
    Conflict,
    InvalidRequest,
    KeysUnavailable,
    ModelNotFound,
    NotAuthenticated,
    NotPermitted,
    RateLimited,
    RequestFailure,
    RequestTooLarge,
    ResourceNotFound,
    UpstreamFailure,
    UpstreamSilent,
    UpstreamUnreachable,
)
from modelserver_runtime.gateway.refusal import Answer

_RETRY_SECONDS = 1.0
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_FIRST_SERVER_ERROR = 500


class _Mapped(NamedTuple):
    status: int
    code: str


# As the runtime answers them itself: a client need not know who refused it.
_TABLE: dict[type[RequestFailure], _Mapped] = {
    InvalidRequest: _Mapped(400, "invalid_request"),
    NotAuthenticated: _Mapped(401, "invalid_api_key"),
    NotPermitted: _Mapped(403, "insufficient_permissions"),
    ModelNotFound: _Mapped(404, "model_not_found"),
    ResourceNotFound: _Mapped(404, "not_found"),
    Conflict: _Mapped(409, "conflict"),
    RequestTooLarge: _Mapped(413, "request_too_large"),
    RateLimited: _Mapped(429, "rate_limit_exceeded"),
    KeysUnavailable: _Mapped(503, "keys_unavailable"),
}


def answer_to(failure: RequestFailure) -> Answer:
    status, code = _TABLE[type(failure)]
    return Answer(
        status=status,
        code=code,
        message=failure.message,
        retry_after_seconds=failure.retry_after_seconds,
    )


def answer_to_upstream(failure: UpstreamFailure) -> Answer:
    match failure:
        case UpstreamUnreachable():
            return Answer(
                status=503,
                code="upstream_unreachable",
                message="No pod of the model can be reached; nothing was sent, try again",
                retry_after_seconds=_RETRY_SECONDS,
            )
        case UpstreamSilent():
            return Answer(
                status=504,
                code="upstream_timeout",
                message="The model did not answer in the time that this route has",
            )
        case _:
            return Answer(
                status=502,
                code="upstream_broken",
                message="The pod of the model ended before it had answered",
            )


def content_of(answer: Answer, path: str) -> bytes:
    """OpenAI's shape, or that of the Open Inference Protocol."""
    if path == "/v2" or path.startswith("/v2/"):
        return orjson.dumps({"error": answer.message})
    other = "server_error" if answer.status >= _FIRST_SERVER_ERROR else "invalid_request_error"
    detail = {
        "message": answer.message,
        "type": _TYPES.get(answer.status, other),
        "param": None,
        "code": answer.code,
    }
    return orjson.dumps({"error": detail})
