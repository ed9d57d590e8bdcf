"""The answer to one client: begun once, with our headers, and perhaps before a model is there."""

from typing import Any

import orjson

from modelserver_runtime.gateway.body import Send
from modelserver_runtime.gateway.front.boundary import Boundary, Pairs
from modelserver_runtime.gateway.headers import REQUEST_ID, is_event_stream
from modelserver_runtime.gateway.refusal import Answer, content_of
from modelserver_runtime.gateway.request import Request

_OK = 200
_STATE = b"x-model-state"


class Reply:
    """`status` is 0 until the client has been told one."""

    def __init__(self, send: Send, boundary: Boundary, request: Request) -> None:
        self.status = 0
        self.state = ""  # of the model
        self.limits: Pairs = []  # what the client has left, unless the pod says that of its own
        self.is_last_of_connection = False
        self._send = send
        self._boundary = boundary
        self._request = request
        self._is_waiting_stream = False
        self._error: bytearray | None = None

    async def begin(self, status: int, pairs: Pairs) -> None:
        """The pod's answer; one that is no stream becomes an event where a stream has begun."""
        if not self._is_waiting_stream:
            await self._start(status, pairs)
        elif status != _OK or not is_event_stream(pairs):
            self._error = bytearray()

    async def part(self, content: bytes, is_last: bool) -> None:  # noqa: FBT001  as ASGI says it
        if self._error is not None:
            self._error += content
            if not is_last:
                return
            content = b"data: " + bytes(self._error).replace(b"\n", b" ") + b"\n\n"
        await self._body(content, more=not is_last)

    async def say_stage(self, stage: str) -> None:
        """A comment, which every client of event streams passes over."""
        if not self.status:
            pairs = [
                (b"content-type", b"text/event-stream; charset=utf-8"),
                (b"cache-control", b"no-cache"),
                (REQUEST_ID, self._request.identity),
            ]
            await self._start(_OK, pairs)
            self._is_waiting_stream = True
        await self._body(b": " + stage.encode("ascii", "replace") + b"\n\n", more=True)

    async def refuse(self, answer: Answer, *more: tuple[bytes, bytes]) -> None:
        content = content_of(answer, self._request.path)
        if self._is_waiting_stream:
            await self._body(b"data: " + content + b"\n\n", more=False)
        elif not self.status:
            await self._whole(answer.status, content, [*more, *answer.headers])

    async def json(self, content: Any, status: int = _OK) -> None:
        await self._whole(status, orjson.dumps(content), [])

    async def empty(self, status: int, pairs: Pairs) -> None:
        await self._start(status, [*pairs, (REQUEST_ID, self._request.identity)])
        await self._body(b"", more=False)

    async def _whole(self, status: int, content: bytes, pairs: Pairs) -> None:
        await self.whole(status, content, [*pairs, (b"content-type", b"application/json")])

    async def whole(self, status: int, content: bytes, pairs: Pairs) -> None:
        """`pairs` say of what type it is."""
        pairs = [
            *pairs,
            (b"content-length", b"%d" % len(content)),
            (REQUEST_ID, self._request.identity),
        ]
        await self._start(status, pairs)
        await self._body(b"" if self._request.method == "HEAD" else content, more=False)

    async def _start(self, status: int, pairs: Pairs) -> None:
        self.status = status
        if self.state:
            pairs = [*pairs, (_STATE, self.state.encode("ascii", "replace"))]
        if self.is_last_of_connection:
            pairs = [*pairs, (b"connection", b"close")]
        present = {name for name, _ in pairs}
        pairs = [*pairs, *(pair for pair in self.limits if pair[0] not in present)]
        added = self._boundary.added(pairs, self._request.headers)
        await self._send({"type": "http.response.start", "status": status, "headers": added})

    async def _body(self, content: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": content, "more_body": more})
