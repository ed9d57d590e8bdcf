"""Answers of the router itself, in the shape of the protocol that a path belongs to."""

import math
from dataclasses import dataclass

import orjson

from modelserver_runtime.gateway.body import Send
from modelserver_runtime.gateway.headers import REQUEST_ID


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    code: str
    message: str
    retry_after_seconds: float | None = None


class Refused(Exception):
    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.message)
        self.answer = answer


_TOO_MANY = 429


async def send_refusal(
    send: Send, answer: Answer, *, path: str, identity: bytes, is_last: bool
) -> None:
    """`is_last`: the client is to open another connection for its next request."""
    content = _content(answer, path)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(content)),
        (REQUEST_ID, identity),
    ]
    if answer.retry_after_seconds is not None:
        headers.append((b"retry-after", b"%d" % math.ceil(answer.retry_after_seconds)))
    if is_last:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _content(answer: Answer, path: str) -> bytes:
    """OpenAI's shape, or that of the Open Inference Protocol."""
    if path == "/v2" or path.startswith("/v2/"):
        return orjson.dumps({"error": answer.message})
    kind = "rate_limit_error" if answer.status == _TOO_MANY else "server_error"
    detail = {"message": answer.message, "type": kind, "param": None, "code": answer.code}
    return orjson.dumps({"error": detail})
