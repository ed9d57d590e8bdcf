"""`python -m bench.routing.upstream CORE`: answers at once, and does nothing else.

It costs far less than the router, so that what is measured is the router.
"""

import asyncio
import os
import sys
from typing import cast

import uvloop

_ANSWER = b'{"object":"chat.completion","choices":[{"message":{"content":"word"}}]}'
_WHOLE = (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b") % (
    len(_ANSWER),
    _ANSWER,
)
_EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"word "}}]}\n\n'
_EVENTS = 500
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_CHUNK = b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT)
_STREAM = b'"stream":true'


class _Answering(asyncio.Protocol):
    """Requests come one at a time and in one piece each; a stream's events come one by one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is of no such class

    def data_received(self, data: bytes) -> None:
        if _STREAM not in data:
            self._transport.write(_WHOLE)
            return
        self._transport.write(_HEAD)
        self._say(_EVENTS)

    def _say(self, left: int) -> None:
        if left:
            self._transport.write(_CHUNK)
            asyncio.get_running_loop().call_soon(self._say, left - 1)
        else:
            self._transport.write(b"0\r\n\r\n")


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Answering, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(f"Ready: upstream, try http://127.0.0.1:{port}/docs", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    os.sched_setaffinity(0, {int(sys.argv[1])})
    uvloop.run(_serve())
