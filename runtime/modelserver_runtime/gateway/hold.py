"""Requests that wait at the router until there is a revision to answer them.

first in, first out ─ at most so many, so many bytes, so long
not held any more ─▶ whoever is to answer can be reached
                  ─▶ released in order, so many at a time; who comes meanwhile waits behind them
"""

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from modelserver_runtime.gateway import headers
from modelserver_runtime.gateway.body import Body
from modelserver_runtime.gateway.refusal import Answer, Refused
from modelserver_runtime.gateway.request import Request
from modelserver_runtime.gateway.route import Hold

# The official clients of OpenAI obey a Retry-After of at most one minute.
_LONGEST_RETRY_SECONDS = 30.0
_SHORTEST_RETRY_SECONDS = 1.0


type Reach = Callable[[], Awaitable[None]]


@dataclass(slots=True, eq=False)
class _Waiting:
    turn: "asyncio.Future[None]"
    held_bytes: int = 0


@dataclass(slots=True)
class Holder:
    """`requests` and `held_bytes` are those that wait now; `answering` were released before."""

    clock: Callable[[], float]
    held_bytes: int = 0
    answering: int = 0
    _rules: Hold | None = None
    _limits: Hold = field(default_factory=Hold)
    _since: float = 0.0
    _queue: deque[_Waiting] = field(default_factory=deque)
    _opening: "asyncio.Task[None] | None" = None

    @property
    def requests(self) -> int:
        return len(self._queue)

    @property
    def is_needed(self) -> bool:
        return self._is_closed or bool(self._queue)

    @property
    def _is_closed(self) -> bool:
        return self._rules is not None or self._opening is not None

    def follow(self, rules: Hold | None, reach: Reach) -> None:
        """What the route says now; without rules, who waits is released when `reach` returns."""
        was_closed = self._is_closed
        if rules is not None and not was_closed:
            self._since = self.clock()
        self._rules = rules
        self._limits = rules or self._limits
        self.close()
        if was_closed and rules is None:
            self._opening = asyncio.create_task(self._open(reach))
        self._release()

    def close(self) -> None:
        """Nobody is waited for any more."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None

    async def _open(self, reach: Reach) -> None:
        """Who cannot be reached for so long will not be: each request is then told so itself."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.max_seconds):
                await reach()
        self._opening = None
        self._release()

    async def wait(self, request: Request, body: Body) -> None:
        """Returns when it is the request's turn, of which `done` says the end."""
        self._require_room(request, body)
        waiting = _Waiting(asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._count(waiting, body.ahead_bytes)
        reading = asyncio.ensure_future(self._read(waiting, body))
        try:
            await asyncio.wait(
                {waiting.turn, reading},
                timeout=self._limits.max_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            self._judge(waiting, reading)
        except BaseException:
            self._leave(waiting)
            raise
        finally:
            reading.cancel()
            self.held_bytes -= waiting.held_bytes

    def done(self) -> None:
        """A request that was released has its answer."""
        self.answering -= 1
        self._release()

    def refuse_all(self) -> None:
        """When the process ends: another router may still have time."""
        while self._queue:
            self._queue.popleft().turn.set_exception(Refused(self._too_late()))

    def _require_room(self, request: Request, body: Body) -> None:
        announced = headers.content_length(request.headers) or 0
        is_too_large = self.held_bytes + max(announced, body.ahead_bytes) > self._limits.max_bytes
        if len(self._queue) >= self._limits.max_requests or is_too_large:
            raise Refused(self._no_room())

    async def _read(self, waiting: _Waiting, body: Body) -> None:
        """The whole body, so that a client that leaves is noticed; ends only by an exception."""
        while body.has_more:
            self._count(waiting, await body.read_ahead())
            if self.held_bytes > self._limits.max_bytes:
                raise Refused(self._no_room())
        await body.until_gone()

    def _count(self, waiting: _Waiting, size: int) -> None:
        waiting.held_bytes += size
        self.held_bytes += size

    def _judge(self, waiting: _Waiting, reading: "asyncio.Future[None]") -> None:
        if reading.done():
            reading.result()  # the client has gone, or sent too much
        if not waiting.turn.done():
            raise Refused(self._too_late())
        waiting.turn.result()

    def _leave(self, waiting: _Waiting) -> None:
        if waiting in self._queue:
            self._queue.remove(waiting)
        elif waiting.turn.done() and not waiting.turn.cancelled() and not waiting.turn.exception():
            self.done()

    def _release(self) -> None:
        while self._queue and not self._is_closed:
            if self.answering >= self._limits.release_concurrency:
                return
            self.answering += 1
            self._queue.popleft().turn.set_result(None)

    def _no_room(self) -> Answer:
        return Answer(
            status=429,
            code="hold_full",
            message=(
                "The model is being exchanged, and as many requests wait for it as may; "
                "try again later"
            ),
            retry_after_seconds=self._retry_seconds,
        )

    def _too_late(self) -> Answer:
        return Answer(
            status=503,
            code="hold_timeout",
            message="The model is being exchanged, and was not ready in time; try again later",
            retry_after_seconds=self._retry_seconds,
        )

    @property
    def _retry_seconds(self) -> float:
        """Of what has lasted for some time nothing better is known than that it lasts as long."""
        lasted = math.ceil(self.clock() - self._since)
        return min(max(lasted, _SHORTEST_RETRY_SECONDS), _LONGEST_RETRY_SECONDS)
