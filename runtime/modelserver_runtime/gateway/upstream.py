"""One connection to a revision: sends requests, gives answers piece by piece, holds back both.

A client of its own and not a library's, because a router must know what most clients hide: whether
any byte of a request was sent, whether any of the answer came, and when either side is too slow.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import cast

import httptools

from modelserver_runtime.errors import UpstreamBroken, UpstreamSilent

# Answers that a slow client has not taken; beyond it the revision is not read from.
_HIGH_WATER_BYTES = 256 << 10
_LOW_WATER_BYTES = 64 << 10
# A head that grows beyond it is no answer.
_MOST_HEAD_BYTES = 128 << 10
_FIRST_FINAL_STATUS = 200


@dataclass(frozen=True, slots=True)
class Head:
    status: int
    headers: list[tuple[bytes, bytes]]


class Connection(asyncio.Protocol):
    """`ask`, `write` what is left of the body, await `head`, then `chunk` until it is empty."""

    def __init__(self, born: float) -> None:
        self.born = born
        self.is_reused = False
        self.expiry: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._failure: Exception | None = None
        self._news: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._is_writing_paused = self._is_reading_paused = False
        self._parser = httptools.HttpResponseParser(self)
        self._is_asked = False
        self._begin("GET")

    def _begin(self, method: str) -> None:
        self._method = method
        self._head: Head | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._is_finished = False
        self._is_kept_alive = False
        self._ends_with_connection = False

    # -- what the router does --------------------------------------------------------------------

    @property
    def is_usable(self) -> bool:
        """Whether another request may be sent."""
        transport = self._transport
        return self._failure is None and transport is not None and not transport.is_closing()

    @property
    def is_finished(self) -> bool:
        """The whole answer has come, and was taken."""
        return self._is_finished and not self._chunks

    @property
    def is_reusable(self) -> bool:
        return self.is_finished and self._is_kept_alive and self.is_usable

    @property
    def has_answered(self) -> bool:
        """Whether any of the answer's head has come."""
        return self._head is not None or self._head_bytes > 0

    def ask(self, method: str, content: bytes) -> None:
        """`content` is the head, and as much of the body as there is."""
        self._begin(method)
        self._is_asked = True
        self.write(content)

    def write(self, content: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(content)

    async def drain(self) -> None:
        """Waits until the revision takes more."""
        if self._is_writing_paused and self._failure is None:
            self._room = self._loop.create_future()
            await self._room

    async def head(self, timeout_seconds: float) -> Head:
        while self._head is None:
            await self._wait(timeout_seconds)
        return self._head

    async def chunk(self, timeout_seconds: float) -> bytes:
        """What has come of the body; empty at its end."""
        while not self._chunks:
            if self._is_finished:
                return b""
            await self._wait(timeout_seconds)
        content = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._buffered = 0
        self._resume_reading()
        return content

    def fail(self, failure: Exception) -> None:
        """Whoever waits for this connection is told; it is not used again."""
        if self._failure is None:
            self._failure = failure
        self._is_asked = False
        self._wake()
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        if self.expiry is not None:
            self.expiry.cancel()
        if self._transport is not None:
            self._transport.close()

    async def _wait(self, timeout_seconds: float) -> None:
        if self._failure is not None:
            raise self._failure
        self._news = self._loop.create_future()
        silence = UpstreamSilent(f"It said nothing for {timeout_seconds:g} s")
        timer = self._loop.call_later(timeout_seconds, self.fail, silence)
        try:
            await self._news
        finally:
            timer.cancel()

    def _wake(self) -> None:
        for future in (self._news, self._room):
            if future is not None and not future.done():
                future.set_result(None)

    # -- asyncio.Protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if not self._is_asked:
            self.fail(UpstreamBroken("It sent what nobody had asked for"))
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.fail(UpstreamBroken(f"What it sent is no HTTP: {error}"))
        self._wake_reader()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._ends_with_connection and exc is None:
            self._is_finished = True
        if self._failure is None:
            reason = f"The connection broke: {exc}" if exc else "It closed the connection"
            self._failure = UpstreamBroken(reason)
        self._wake()

    def pause_writing(self) -> None:
        self._is_writing_paused = True

    def resume_writing(self) -> None:
        self._is_writing_paused = False
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _wake_reader(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _resume_reading(self) -> None:
        if self._is_reading_paused and self._buffered < _LOW_WATER_BYTES and self._transport:
            self._is_reading_paused = False
            self._transport.resume_reading()

    # -- httptools -------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._headers = []

    def on_status(self, status: bytes) -> None:
        self._note_head(len(status) + 1)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))
        self._note_head(len(name) + len(value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._is_finished:  # a second answer to one question
            self._is_kept_alive = False
            return
        if status < _FIRST_FINAL_STATUS:
            return
        self._is_kept_alive = self._parser.should_keep_alive()
        names = {name for name, _ in self._headers}
        has_end = names & {b"content-length", b"transfer-encoding"}
        self._ends_with_connection = not has_end
        self._head = Head(status, self._headers)
        if self._method == "HEAD":
            # The parser waits for a body that never comes.
            self._is_finished, self._is_kept_alive = True, False

    def on_body(self, body: bytes) -> None:
        if self._is_finished:
            return
        self._chunks.append(body)
        self._buffered += len(body)
        if self._buffered > _HIGH_WATER_BYTES and not self._is_reading_paused and self._transport:
            self._is_reading_paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self._head is None:  # of 1xx: the real answer is still to come
            return
        self._is_finished = True
        self._is_asked = False

    def _note_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head is None and self._head_bytes > _MOST_HEAD_BYTES:
            self.fail(UpstreamBroken(f"Its answer's head is longer than {_MOST_HEAD_BYTES} bytes"))
