"""Requests that the server makes to itself: through every layer that a client's would meet."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message

from modelserver_runtime.rest.jobs.owner import Owner

# Of a refusal that does not say when to come back.
_RETRY_SECONDS = 1.0
_LONGEST_RETRY_SECONDS = 60.0
# Refused, or not begun in time, because others go first: what has time comes again.
_BUSY = frozenset({429, 503, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Of a request; `retry_seconds` is set if it was refused for now only."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def request_id(self) -> str:
        return self.headers.get("x-request-id", "")

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300  # noqa: PLR2004  what HTTP calls success

    @property
    def retry_seconds(self) -> float | None:
        advice = self.headers.get("x-should-retry")
        is_busy = self.status in _BUSY and advice != "false"
        if not is_busy and advice != "true":
            return None
        wait = _number(self.headers.get("retry-after-ms", "")) / 1000
        wait = wait or _number(self.headers.get("retry-after", ""))
        return min(wait or _RETRY_SECONDS, _LONGEST_RETRY_SECONDS)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One JSON request on behalf of `owner`, after everybody who waits for an answer."""

    path: str
    content: bytes
    owner: Owner


@dataclass(slots=True)
class _Exchange:
    call: Call
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    content: bytearray = field(default_factory=bytearray)
    was_read: bool = False

    async def receive(self) -> Message:
        """The body, and then nothing: this client does not go away."""
        if self.was_read:
            await asyncio.Event().wait()
        self.was_read = True
        return {"type": "http.request", "body": self.call.content, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.content += message.get("body", b"")


async def perform(asgi: ASGIApp, call: Call) -> Answer:
    exchange = _Exchange(call)
    # A task of its own, since the layers keep the request in context variables.
    await asyncio.create_task(_run(asgi, exchange))
    return Answer(status=exchange.status, headers=exchange.headers, content=bytes(exchange.content))


async def _run(asgi: ASGIApp, exchange: _Exchange) -> None:
    await asgi(_scope(exchange.call), exchange.receive, exchange.send)


async def perform_patiently(asgi: ASGIApp, call: Call, stop: asyncio.Event) -> Answer:
    """Comes again for as long as the server is busy; the last refusal when told to stop."""
    while True:
        answer = await perform(asgi, call)
        if answer.retry_seconds is None or await _stopped(stop, answer.retry_seconds):
            return answer


async def _stopped(stop: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True


def _scope(call: Call) -> dict[str, Any]:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(call.content)).encode()),
        (b"x-priority", b"low"),
        *call.owner.headers,
    ]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": call.path,
        "raw_path": call.path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": call.owner.client,
        "server": None,
        "state": {},
    }
