"""What a request is refused for, as an answer: which status and code each has."""

from typing import NamedTuple

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
)
from modelserver_runtime.gateway.refusal import Answer


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
