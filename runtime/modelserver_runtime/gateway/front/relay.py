"""A request's way to one of a model's pods, and the answer's way back.

choose ─▶ connect ─▶ send ─▶ head ─▶ body
   ▲         │refused    │broken, and it can be repeated
   └─ next ──┴───────────┘
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from modelserver_runtime.errors import UpstreamBroken, UpstreamSilent, UpstreamUnreachable
from modelserver_runtime.gateway import headers
from modelserver_runtime.gateway.balance import Balancer
from modelserver_runtime.gateway.body import Body
from modelserver_runtime.gateway.cluster import Address
from modelserver_runtime.gateway.front.pods import Pods
from modelserver_runtime.gateway.pool import Pool
from modelserver_runtime.gateway.request import LAST_CHUNK, Request, chunk_of
from modelserver_runtime.gateway.upstream import Connection, Head

# With these a pod says itself that it is ill; 503 and 504 are also said of a full queue.
_ILL = frozenset({500, 502})

type Begin = Callable[[int, list[tuple[bytes, bytes]]], Awaitable[None]]
type SendPart = Callable[[bytes, bool], Awaitable[None]]


class Relay:
    """`key` is what a conversation begins with, `seconds` the longest silence of a pod."""

    def __init__(
        self,
        pods: Pods,
        balancer: Balancer[Address],
        request: Request,
        *,
        key: bytes,
        seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._pods = pods
        self._balancer = balancer
        self._request = request
        self._key = key
        self._seconds = seconds
        self._clock = clock
        self._tried: set[Address] = set()
        self._pod: Address | None = None
        self._pool: Pool | None = None
        self._connection: Connection | None = None
        self._inbound: asyncio.Task[None] | None = None
        self._is_sent = False

    async def run(self, body: Body, begin: Begin, send: SendPart) -> None:
        """Raises UpstreamFailure; before `begin` was called, the client was told nothing yet."""
        first = body.take_ahead()
        content = self._request.content(first, is_whole=not body.has_more)
        try:
            connection, head = await self._head(content, body)
            self._note(is_well=head.status not in _ILL)
            await begin(head.status, list(_answered(head, self._request.identity)))
            is_last = False
            while not is_last:
                part = await connection.chunk(self._seconds)
                is_last = connection.is_finished
                if is_last:
                    self._end()
                await send(part, is_last)
        finally:
            self._end()

    # -- there -----------------------------------------------------------------------------------

    async def _head(self, content: bytes, body: Body) -> tuple[Connection, Head]:
        while True:
            connection = await self._connect()
            try:
                return connection, await self._ask(connection, content, body)
            except UpstreamSilent:
                self._note(is_well=False)
                raise
            except UpstreamBroken:
                is_stale = connection.is_reused  # the pod had closed it, and that says nothing
                if not is_stale:
                    self._note(is_well=False)
                if body.has_more or connection.has_answered or not self._request.is_repeatable:
                    raise
                self._end()

    async def _connect(self) -> Connection:
        failure = UpstreamUnreachable("the model has no pod that could be asked")
        while True:
            pod = self._balancer.choose(now=self._clock(), key=self._key, without=self._tried)
            if pod is None:
                raise failure
            self._tried.add(pod)
            self._pod = pod
            self._pool = self._pods.pool(pod)
            try:
                return await self._pool.take()
            except UpstreamUnreachable as error:
                failure = error
                self._note(is_well=False)

    async def _ask(self, connection: Connection, content: bytes, body: Body) -> Head:
        self._connection = connection
        if self._pod is not None:
            self._balancer.begin(self._pod, self._key)
        self._is_sent = not body.has_more
        connection.ask(self._request.method, content)
        self._inbound = asyncio.create_task(self._feed(connection, body))
        return await connection.head(self._seconds)

    async def _feed(self, connection: Connection, body: Body) -> None:
        """Sends what is still to come of the body, then waits for the client to go."""
        try:
            while body.has_more:
                part = await body.read()
                connection.write(chunk_of(part) if self._request.is_chunked else part)
                if not body.has_more and self._request.is_chunked:
                    connection.write(LAST_CHUNK)
                await connection.drain()
            self._is_sent = True
            await body.until_gone()
        except Exception as error:  # noqa: BLE001  ClientGone, or too large: whoever waits is told
            connection.fail(error)

    def _note(self, *, is_well: bool) -> None:
        if self._pod is not None:
            self._balancer.note(self._pod, is_well=is_well, now=self._clock())

    def _end(self) -> None:
        """Before the last piece is sent, after which the client's silence is no news any more."""
        if self._inbound is not None:
            self._inbound.cancel()
            self._inbound = None
        connection, self._connection = self._connection, None
        if connection is None or self._pod is None or self._pool is None:
            return
        self._balancer.end(self._pod, self._key)
        if self._is_sent:
            self._pool.give_back(connection)
        else:
            connection.close()


def _answered(head: Head, identity: bytes) -> Iterable[tuple[bytes, bytes]]:
    """The pod's headers, and its revision if it says so; a router's is passed on unchanged."""
    revisions = headers.values_of(head.headers, headers.REVISION.decode())
    revisions += headers.values_of(head.headers, "x-model-revision")
    revision = revisions[0] if revisions else ""
    for name, value in headers.answered(head.headers, revision=revision, identity=identity):
        if name != headers.REVISION or value:
            yield name, value
