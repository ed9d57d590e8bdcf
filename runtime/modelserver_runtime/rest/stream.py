"""Server-sent events that begin with a true status, and end when the client goes."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

import orjson
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from modelserver_runtime.cache.exchange import current_exchange
from modelserver_runtime.errors import RequestFailure
from modelserver_runtime.rest.disconnect import ClientDisconnected, until_disconnect
from modelserver_runtime.rest.errors import detail_of

# A text is sent as it is, bytes are JSON already.
type Event = dict[str, Any] | str | bytes

_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        # Proxies of the nginx kind would collect the events otherwise.
        (b"x-accel-buffering", b"no"),
    ],
}


class EventStream(Response):
    """Opens `events` when it is sent, and waits for the first one before the status goes out.

    So a request that is refused, or fails before its first token, gets its status and not a stream.
    """

    def __init__(self, events: AbstractAsyncContextManager[AsyncIterator[Event]]) -> None:
        super().__init__()
        self._events = events

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        # When the client is gone nobody is left to be told.
        with suppress(ClientDisconnected):
            await until_disconnect(receive, self._stream(send))

    async def _stream(self, send: Send) -> None:
        current_exchange().is_streamed = True
        async with self._events as events:
            first = await anext(events)
            await send(_START)
            await _send_event(send, first)
            try:
                async for event in events:
                    await _send_event(send, event)
            except RequestFailure as failure:
                await _send_event(send, {"error": detail_of(failure).model_dump()})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_event(send: Send, event: Event) -> None:
    body = b"data: %b\n\n" % _content(event)
    if isinstance(event, dict) and "type" in event:
        # Events of responses have names, which some clients go by.
        body = b"event: %b\n%b" % (event["type"].encode(), body)
    await send({"type": "http.response.body", "body": body, "more_body": True})


def _content(event: Event) -> bytes:
    if isinstance(event, bytes):
        return event
    return event.encode() if isinstance(event, str) else orjson.dumps(event)
