"""Answers of our own, in the shape of the protocol that a path belongs to."""

import math
from dataclasses import dataclass

import orjson

from modelserver_runtime.errors import UpstreamFailure, UpstreamSilent, UpstreamUnreachable
from modelserver_runtime.gateway.body import Send
from modelserver_runtime.gateway.headers import REQUEST_ID


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    code: str
    message: str
    retry_after_seconds: float | None = None

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Beside those that every answer has."""
        if self.retry_after_seconds is None:
            return []
        return [(b"retry-after", b"%d" % max(1, math.ceil(self.retry_after_seconds)))]


class Refused(Exception):
    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.message)
        self.answer = answer


# A Service knows within a second or two that a pod is gone, or that there is one.
RETRY_SECONDS = 1.0
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_FIRST_SERVER_ERROR = 500


def answer_to_upstream(failure: UpstreamFailure) -> Answer:
    match failure:
        case UpstreamUnreachable():
            return Answer(
                status=503,
                code="upstream_unreachable",
                message="No pod of the model can be reached; nothing was sent, try again",
                retry_after_seconds=RETRY_SECONDS,
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


async def send_refusal(
    send: Send, answer: Answer, *, path: str, identity: bytes, is_last: bool
) -> None:
    """`is_last`: the client is to open another connection for its next request."""
    content = content_of(answer, path)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(content)),
        (REQUEST_ID, identity),
        *answer.headers,
    ]
    if is_last:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
