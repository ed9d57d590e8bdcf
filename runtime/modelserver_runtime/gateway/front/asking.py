"""A request's body as far as the gateway reads it: the model's name, and what /generate is sent."""

import asyncio
from dataclasses import dataclass, replace
from typing import Any

import orjson

from modelserver_runtime.errors import InvalidRequest, RequestTooLarge
from modelserver_runtime.gateway import headers
from modelserver_runtime.gateway.body import Body, Receive
from modelserver_runtime.gateway.front.scan import Scan, read, renamed, scan
from modelserver_runtime.gateway.refusal import Answer, Refused
from modelserver_runtime.gateway.request import Request

_LONGEST_TEXT = 1_000_000
_MODEL_HEADER = "x-modelserver-model"
_TOO_SLOW = Answer(
    status=408,
    code="request_timeout",
    message="The request's body did not come in time; send it again",
)


class FrontBody(Body):
    """A body that is refused beyond `most` bytes, however it comes, and beyond `seconds`.

    Of the time only that counts in which the client was waited for: a slow pod is not its fault.
    """

    def __init__(self, receive: Receive, most: int, seconds: float) -> None:
        super().__init__(receive)
        self._most = most
        self._read = 0
        self._seconds_left = seconds

    async def read(self) -> bytes:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._seconds_left):
                part = await super().read()
        except TimeoutError as error:
            raise Refused(_TOO_SLOW) from error
        self._seconds_left -= loop.time() - began
        self._read += len(part)
        if self._read > self._most:
            raise too_large(self._most)
        return part

    @property
    def ahead(self) -> bytes:
        """What has been read and not been taken; as one piece."""
        if len(self._ahead) > 1:
            self._ahead = [b"".join(self._ahead)]
        return self._ahead[0] if self._ahead else b""

    def put_back(self, content: bytes) -> None:
        """Instead of all that was read."""
        self._ahead = [content]


def too_large(most: int) -> RequestTooLarge:
    return RequestTooLarge(f"The request is larger than {most} bytes; send less")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """`model` is the name that the client gave, None where it gave none."""

    model: str | None
    scanned: Scan | None = None


async def read_model(request: Request, body: FrontBody) -> Asked:
    """Reads the body until the model's name has come. Raises InvalidRequest."""
    await body.read_ahead()
    named = headers.values_of(request.headers, _MODEL_HEADER)
    if named:
        return Asked(model=named[0])
    if not _is_json(request):
        return Asked(model=None)
    found = _scanned(body)
    looked_at = body.ahead_bytes
    while found.model is None and body.has_more:
        await body.read_ahead()
        # Each look begins anew, so each is at twice as much.
        if body.ahead_bytes >= 2 * looked_at or not body.has_more:
            looked_at = body.ahead_bytes
            found = _scanned(body)
    if found.model is None and not found.is_complete:
        raise InvalidRequest("The body ends in the middle of its JSON; send it whole")
    return Asked(model=found.model, scanned=found)


def _scanned(body: FrontBody) -> Scan:
    return scan(body.ahead) if body.has_more else read(body.ahead)


def rename(request: Request, body: FrontBody, asked: Asked, name: str) -> Request:
    """The pods know no namespaces: their own name takes the place of the client's."""
    if asked.scanned is None or asked.model is None or asked.model == name:
        return request
    before = body.ahead
    after = renamed(before, name)
    body.put_back(after)
    return with_length(request, len(after) - len(before))


async def generate_body(request: Request, body: FrontBody) -> Request:
    """`{"text", "max_length"}` becomes what the runtime's /generate takes; so does its own form."""
    while body.has_more:
        await body.read_ahead()
    before = body.ahead
    try:
        content = orjson.loads(before)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise InvalidRequest('The body must be an object like {"text": "...", "max_length": 50}')
    if "inputs" in content:
        return request
    after = orjson.dumps(_translated(content))
    body.put_back(after)
    return with_length(request, len(after) - len(before))


def with_length(request: Request, difference: int) -> Request:
    length = headers.content_length(request.headers)
    if length is None or not difference:
        return request
    others = [pair for pair in request.headers if pair[0] != b"content-length"]
    others.append((b"content-length", b"%d" % (length + difference)))
    return replace(request, headers=others)


def _translated(content: dict[str, Any]) -> dict[str, Any]:
    text, length = content.get("text"), content.get("max_length", 50)
    unknown = sorted(set(content) - {"text", "max_length"})
    if unknown:
        raise InvalidRequest(f"{unknown[0]} is no field of this route", param=unknown[0])
    if not isinstance(text, str) or not 1 <= len(text) <= _LONGEST_TEXT:
        raise InvalidRequest(
            f"text must be a string of 1 to {_LONGEST_TEXT} characters", param="text"
        )
    if not isinstance(length, int) or isinstance(length, bool) or length < 1:
        raise InvalidRequest("max_length must be a whole number of at least 1", param="max_length")
    return {"inputs": text, "parameters": {"max_new_tokens": length}}


def _is_json(request: Request) -> bool:
    """Clients that name no type send JSON."""
    kind = headers.content_type(request.headers)
    has_body = request.method not in {"GET", "HEAD", "DELETE", "OPTIONS"}
    return has_body and (kind in {"", "application/json"} or kind.endswith("+json"))
