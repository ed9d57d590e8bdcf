"""A stand-in for a model: an HTTP program of one file; variables switch its faults on.

Runs as engine `Custom` in any image with uvicorn. Each answer says the mark of its request, which
revision made it, and how often this pod has seen the mark from clients. `/metrics` counts clients
in the words of the runtime.

    ANSWER_MILLISECONDS   how long an answer takes (50)
    CPU_MILLISECONDS      how much of the processor's time it takes besides (0)
    FAIL_EVERY            every n-th request of a client gets 500; 0 is none (0)
    VOICE                 the first word of every answer ("same")
    LOADING               1: it loads, and is not ready, until somebody posts to /loaded (0)

Who asks for a stream gets the words of the answer one by one.
"""

import asyncio
import json
import math
import os
import signal
import time
from collections import Counter

import uvicorn

PORT = 8080
# Keep-alive clients learn from `Connection: close` that they must connect anew, before any
# connection is closed under a request of theirs.
LAME_DUCK_SECONDS = 4
# Seconds; so few that a machine which is busy for a moment is no evidence against a revision.
EDGES = (1.0, 2.5, 10.0, math.inf)


class MarkedModel:
    """An ASGI application."""

    def __init__(self, environment):
        self._seconds = int(environment.get("ANSWER_MILLISECONDS", "50")) / 1000
        self._cpu_seconds = int(environment.get("CPU_MILLISECONDS", "0")) / 1000
        self._fail_every = int(environment.get("FAIL_EVERY", "0"))
        self._voice = environment.get("VOICE", "same")
        self._revision = environment.get("MODELSERVER_REVISION", "")
        self._asked = 0
        self._in_flight = 0  # of clients
        self._seen = Counter()
        self._answered = Counter()  # clients, by status
        self._within = Counter()  # clients, by the edge that the answer's time is within
        self._began = time.time()
        self._is_loading = environment.get("LOADING", "0") == "1"
        self.is_draining = False

    async def __call__(self, scope, receive, send):
        if scope["path"] == "/metrics":
            await self._send(send, 200, self._metrics().encode(), content_type=b"text/plain")
            return
        if scope["path"] != "/v1/chat/completions":
            await self._send(send, *self._state(scope["path"]))
            return
        asked = json.loads(await _body(receive))
        mark = asked["messages"][-1]["content"]
        is_copy = b"x-modelserver-shadow" in dict(scope["headers"])
        status = 200 if is_copy else self._status(mark)
        came = time.monotonic()
        self._in_flight += not is_copy
        try:
            compute(self._cpu_seconds)
            await asyncio.sleep(self._seconds)
            answer = self._answer(mark, status)
            if asked.get("stream") and status == 200:
                await self._stream(send, answer["choices"][0]["message"]["content"], mark)
            else:
                await self._send(send, status, answer, mark=mark)
        finally:
            self._in_flight -= not is_copy
        if not is_copy:
            self._count(status, time.monotonic() - came)

    def _state(self, path):
        """Like the runtime's own probes: what is not ready says how far it is."""
        self._is_loading = self._is_loading and path != "/loaded"
        if self._is_loading and path in {"/readyz", "/startupz"}:
            return 503, {"phase": "Loading"}
        return 200, {"status": "ok"}

    def _status(self, mark):
        self._asked += 1
        self._seen[mark] += 1
        return 500 if self._fail_every and self._asked % self._fail_every == 0 else 200

    def _count(self, status, seconds):
        self._answered[status] += 1
        for edge in EDGES:
            self._within[edge] += seconds <= edge

    def _metrics(self):
        """The names and the format of the runtime's own."""
        lines = [
            f"process_start_time_seconds {self._began}",
            f"process_cpu_seconds_total {time.process_time()}",
            f"modelserver_inflight_requests {self._in_flight}",
        ]
        for status, number in self._answered.items():
            lines.append(f'modelserver_requests_total{{code="{status}"}} {number}')
        for edge in EDGES:
            le = "+Inf" if edge == math.inf else edge
            name = "modelserver_request_duration_seconds_bucket"
            lines.append(f'{name}{{le="{le}"}} {self._within[edge]}')
        return "\n".join([*lines, ""])

    def _answer(self, mark, status):
        if status != 200:
            return {"error": {"message": "broken on purpose", "type": "server_error"}}
        message = {"role": "assistant", "content": f"{self._voice} {mark}"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {"object": "chat.completion", "choices": [choice]}

    async def _stream(self, send, content, mark):
        headers = self._headers(b"text/event-stream", mark)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for word in content.split():
            chunk = {"choices": [{"index": 0, "delta": {"content": f"{word} "}}]}
            await _part(send, f"data: {json.dumps(chunk)}\n\n", has_more=True)
        await _part(send, "data: [DONE]\n\n", has_more=False)

    def _headers(self, content_type, mark):
        headers = [
            (b"content-type", content_type),
            (b"x-model-revision", self._revision.encode()),
        ]
        if mark is not None:
            headers.append((b"x-request-id", mark.encode()))
            headers.append((b"x-times-seen", str(self._seen[mark]).encode()))
        if self.is_draining:
            headers.append((b"connection", b"close"))
        return headers

    async def _send(self, send, status, document, *, mark=None, content_type=b"application/json"):
        headers = self._headers(content_type, mark)
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        headers.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})


def compute(seconds):
    """Takes that much of the processor's time, however long it takes to get it."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


async def _part(send, text, *, has_more):
    await send({"type": "http.response.body", "body": text.encode(), "more_body": has_more})


async def _body(receive):
    parts, has_more = [], True
    while has_more:
        message = await receive()
        parts.append(message.get("body", b""))
        has_more = message.get("more_body", False)
    return b"".join(parts)


class Server(uvicorn.Server):
    """Goes on answering for a while after SIGTERM, as a lame duck."""

    def install(self, model):
        loop = asyncio.get_running_loop()

        def drain():
            model.is_draining = True
            loop.call_later(LAME_DUCK_SECONDS, setattr, self, "should_exit", True)

        # after uvicorn's own handlers, which would end at once
        loop.call_soon(loop.add_signal_handler, signal.SIGTERM, drain)

    async def startup(self, sockets=None):
        await super().startup(sockets)
        self.install(self.config.app)


def main():
    config = uvicorn.Config(
        MarkedModel(os.environ),
        host="0.0.0.0",
        port=PORT,
        lifespan="off",
        access_log=False,
        # Longer than clients keep an idle connection, so that it is they who close it.
        timeout_keep_alive=75,
    )
    Server(config).run()


if __name__ == "__main__":
    main()
