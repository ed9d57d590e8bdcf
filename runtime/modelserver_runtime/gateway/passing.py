"""A request's way to a revision, and the answer's way back.

choose ─▶ connect ─▶ send ─▶ head ─▶ body
             │refused    │broken
             └─ stable ◀─┘ only what can be repeated

Each request counts once, for the revision or the experiment that it was meant for: also when the
stable revision answered in its place.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from modelserver_runtime.errors import UpstreamBroken, UpstreamFailure, UpstreamUnreachable
from modelserver_runtime.gateway import headers
from modelserver_runtime.gateway.body import Body, Send
from modelserver_runtime.gateway.choice import Choice, Chooser
from modelserver_runtime.gateway.counts import Counts, Tally
from modelserver_runtime.gateway.meter import Meter
from modelserver_runtime.gateway.pool import Clock, Pool
from modelserver_runtime.gateway.recording import Recording
from modelserver_runtime.gateway.request import Request
from modelserver_runtime.gateway.route import Route
from modelserver_runtime.gateway.sending import Sending
from modelserver_runtime.gateway.upstream import Connection, Head

# The pods end a request after the same time, and their answer says more than ours.
GRACE_SECONDS = 5.0
# Each connection may meet another pod of the Service.
_TRIES_OF_STABLE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """The present route, with what it needs to be followed."""

    route: Route
    chooser: Chooser
    pools: Mapping[str, Pool]


class Surroundings(Protocol):
    """What the passing of a request needs of the router."""

    clock: Clock
    tally: Tally
    is_draining: bool


class Passing:
    def __init__(
        self, router: Surroundings, way: Way, choice: Choice, request: Request, send: Send
    ) -> None:
        self._router = router
        self._way = way
        self._choice = choice
        self._request = request
        self._send = send
        self._counts = self._counts_of(choice)
        self._timeout = way.route.timeout_seconds + GRACE_SECONDS
        self._revision = choice.revision
        self._sending: Sending | None = None
        self.status = 0
        self.is_complete = False
        self.recording: Recording | None = None

    def _counts_of(self, choice: Choice) -> Counts:
        tally = self._router.tally
        if choice.experiment is not None:
            return tally.of_experiment(choice.experiment)
        return tally.of_revision(choice.revision)

    async def run(self, body: Body) -> None:
        """Raises UpstreamFailure; if `status` is 0 then, the client was told nothing yet."""
        began = self._router.clock()
        first = body.take_ahead()
        content = self._request.content(first, is_whole=not body.has_more)
        if self.recording is not None:
            self.recording.note_request(first)
        self._counts.in_flight += 1
        try:
            connection, head = await self._head(content, body)
            await self._relay(connection, head, began)
        except UpstreamFailure:
            self._count_failure()
            raise
        finally:
            self._counts.in_flight -= 1
            self._end()

    def fields(self, failure: Exception) -> dict[str, Any]:
        """For the log."""
        return {
            "request_id": self._request.identity.decode(),
            "revision": self._revision,
            "status": self.status or None,
            "reason": str(failure),
        }

    def _count_failure(self) -> None:
        if self.status:
            self._counts.note_broken(self.status)
        elif not self._has_fallen_back:
            self._counts.note_no_answer()

    # -- there -----------------------------------------------------------------------------------

    @property
    def _has_fallen_back(self) -> bool:
        return self._revision != self._choice.revision

    async def _head(self, content: bytes, body: Body) -> tuple[Connection, Head]:
        connection = await self._connect()
        try:
            return connection, await self._ask(connection, content, body)
        except UpstreamBroken:
            if body.has_more or connection.has_answered or not self._request.is_repeatable:
                raise
        self._end()
        self._fall_back()
        connection = await self._way.pools[self._revision].take(is_new=True)
        return connection, await self._ask(connection, content, body)

    async def _connect(self) -> Connection:
        if self._revision != self._way.route.stable:
            try:
                return await self._way.pools[self._revision].take()
            except UpstreamUnreachable:
                self._fall_back()
        pool = self._way.pools[self._revision]
        for _ in range(_TRIES_OF_STABLE - 1):
            try:
                return await pool.take()
            except UpstreamUnreachable:
                continue
        return await pool.take()

    def _fall_back(self) -> None:
        if self._revision == self._way.route.stable:
            return
        self._revision = self._way.route.stable
        self._counts.note_no_answer()
        self._counts.fallbacks += 1

    async def _ask(self, connection: Connection, content: bytes, body: Body) -> Head:
        note = None if self.recording is None else self.recording.note_request
        pool = self._way.pools[self._revision]
        self._sending = Sending(pool, connection, self._request, body, note)
        return await self._sending.ask(content, self._timeout)

    # -- back ------------------------------------------------------------------------------------

    async def _relay(self, connection: Connection, head: Head, began: float) -> None:
        self._note(head)
        is_stream = headers.is_event_stream(head.headers)
        meter = Meter(self._counts, self._router.clock, began, is_stream=is_stream)
        sent = self._headers(head)
        await self._send({"type": "http.response.start", "status": head.status, "headers": sent})
        is_last = False
        while not is_last:
            chunk = await connection.chunk(self._timeout)
            is_last = connection.is_finished
            meter.pass_by(chunk)
            if self.recording is not None:
                self.recording.note_answer(chunk)
            if is_last:
                self._finish(meter)
            message = {"type": "http.response.body", "body": chunk, "more_body": not is_last}
            await self._send(message)

    def _note(self, head: Head) -> None:
        self.status = head.status
        if not self._has_fallen_back:
            self._counts.note_answer(head.status)
        if self.recording is not None:
            self.recording.head = head

    def _finish(self, meter: Meter) -> None:
        """A time that another revision took says nothing about this one."""
        self.is_complete = True
        if not self._has_fallen_back:
            meter.finish()
        self._end()

    def _headers(self, head: Head) -> list[tuple[bytes, bytes]]:
        identity = self._request.identity
        passed = list(headers.answered(head.headers, revision=self._revision, identity=identity))
        sticky = self._way.route.sticky
        if self._choice.is_new_cookie and sticky is not None and sticky.cookie is not None:
            passed.append(headers.set_cookie(sticky.cookie, self._revision, sticky.seconds))
        if self._router.is_draining:
            # A client that keeps connections then opens its next one to another router.
            passed.append((b"connection", b"close"))
        return passed

    def _end(self) -> None:
        if self._sending is not None:
            self._sending.end()
