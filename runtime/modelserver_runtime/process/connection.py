"""A client's connection that does not wait for ever, and keeps no head without end.

uvicorn bounds neither how long a client takes for the head of a request, nor how long a head is,
nor what still comes of a body that nobody reads any more.
"""

import asyncio
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from modelserver_runtime.process.joining import joining

# Tokens and cookies have some kilobytes; most servers and proxies allow 8 to 64 KiB.
MOST_HEAD_BYTES = 64 << 10
_VERSIONS = frozenset({"1.0", "1.1"})
_TRANSFER_ENCODING = b"transfer-encoding"


class Connection(HttpToolsProtocol):
    """`head_seconds` from the first byte, or the connection's beginning; the answer may last.

    `body_seconds`: how much longer a body may come after its answer has been sent.
    """

    def __init__(
        self, *arguments: Any, head_seconds: float, body_seconds: float, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._head_seconds = head_seconds
        self._body_seconds = body_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._is_in_head = False
        self._messages = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(joining(transport))
        self._wait(self._head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        messages = self._messages
        super().data_received(data)
        # The piece in which it began is at most as long as what is read at once.
        if self._is_in_head and messages == self._messages:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self._refuse(
                    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                    f"The head of the request is larger than {MOST_HEAD_BYTES} bytes",
                )

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0
        self._is_in_head = True
        self._messages += 1
        self._wait(self._head_seconds)

    def on_headers_complete(self) -> None:
        """What is raised here is answered with 400."""
        _require_one_meaning(self.parser.get_http_version(), self.headers)
        self._wait(None)
        self._is_in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        # After its answer nobody else looks at how long the next one takes.
        self._wait(None if self._is_answering else self._head_seconds)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        is_body_coming = self.cycle.more_body
        super().on_response_complete()
        if is_body_coming:
            self._wait(self._body_seconds)

    def send_400_response(self, msg: str) -> None:
        """Of what is no HTTP, or could be understood in two ways: length and chunks together."""
        del msg
        self._refuse(HTTPStatus.BAD_REQUEST, "This is no valid HTTP request")

    @property
    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None until the first request
        return cycle is not None and not cycle.response_complete

    def _wait(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        if self._is_answering:  # the next request may be slow as long as this one is answered
            self._wait(self._head_seconds)
        elif self._is_in_head:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "The head of the request did not come in time")
        elif not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """In the place of an application, which knows nothing of this request."""
        if self.transport.is_closing():
            return
        if not self._is_answering:
            self.transport.write(_answer(status, message))
        self.transport.close()


def _require_one_meaning(version: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """RFC 9112 6.1: where a body ends must be the same for everybody who reads it.

    That chunks and a length do not come together the parser looks at itself.
    """
    if version not in _VERSIONS:
        raise ValueError(f"HTTP/{version} is not spoken here")
    encodings = [value.strip().lower() for name, value in headers if name == _TRANSFER_ENCODING]
    if encodings and (encodings != [b"chunked"] or version == "1.0"):
        raise ValueError("the transfer encoding is not just chunked")


def _answer(status: HTTPStatus, message: str) -> bytes:
    code = status.phrase.lower().replace(" ", "_")
    detail = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    content = orjson.dumps({"error": detail})
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        "content-type: application/json\r\n"
        "x-content-type-options: nosniff\r\n"
        f"content-length: {len(content)}\r\n"
        "connection: close\r\n\r\n"
    )
    return head.encode() + content
