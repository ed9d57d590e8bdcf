"""`python -m bench.passing.upstream`: a model that answers at once, as OpenAI's routes do.

It costs a fraction of any proxy, so that what is measured is the proxy. Answers are complete, since
some proxies read them. A stream says as many words as `max_tokens`, each in a piece of its own.
"""

import asyncio
import json
import re
from typing import Any, cast

import uvloop

_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_STREAM = re.compile(rb'"stream":\s*true')
_MOST_TOKENS = re.compile(rb'"max_tokens":\s*(\d+)')
_DEFAULT_TOKENS = 64
_BACKLOG = 4096
_COMMON = {"id": "chatcmpl-1", "created": 1, "model": "bench"}
_USAGE = {"prompt_tokens": 6, "completion_tokens": 1, "total_tokens": 7}


def _whole() -> bytes:
    message = {"role": "assistant", "content": "word "}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    answer = {**_COMMON, "object": "chat.completion", "choices": [choice], "usage": _USAGE}
    content = json.dumps(answer).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
    return head % (len(content), content)


def _event(delta: dict[str, Any], reason: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    event = {**_COMMON, "object": "chat.completion.chunk", "choices": [choice]}
    return _chunk(b"data: %b\n\n" % json.dumps(event).encode())


def _chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


_WHOLE = _whole()
_WORD = _event({"role": "assistant", "content": "word "}, None)
_END = _event({}, "stop") + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class _Answering(asyncio.Protocol):
    """One request at a time, in as many pieces as it comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is of no such class
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(_HEAD_END)
        if end < 0:
            return
        length = _LENGTH.search(self._received, 0, end)
        if len(self._received) >= end + len(_HEAD_END) + (int(length[1]) if length else 0):
            body, self._received = self._received[end:], b""
            self._answer(body)

    def _answer(self, body: bytes) -> None:
        if _STREAM.search(body):
            asked = _MOST_TOKENS.search(body)
            self._transport.write(_HEAD)
            self._say(int(asked[1]) if asked else _DEFAULT_TOKENS)
        else:
            self._transport.write(_WHOLE)

    def _say(self, left: int) -> None:
        if self._transport.is_closing():
            return
        if left:
            self._transport.write(_WORD)
            asyncio.get_running_loop().call_soon(self._say, left - 1)
        else:
            self._transport.write(_END)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Answering, "127.0.0.1", 0, backlog=_BACKLOG)
    port = server.sockets[0].getsockname()[1]
    print(f"Listening on http://127.0.0.1:{port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
