"""A request's way to one of a model's pods, and the answer's way back.

choose ─▶ connect ─▶ send ─▶ head ─▶ body
   ▲         │refused    │broken, and it can be repeated
   └─ next ──┴───────────┘
"""

from collections.abc import Awaitable, Callable, Iterable

from modelserver_runtime.errors import UpstreamBroken, UpstreamSilent, UpstreamUnreachable
from modelserver_runtime.gateway import headers
from modelserver_runtime.gateway.balance import Balancer
from modelserver_runtime.gateway.body import Body
from modelserver_runtime.gateway.cluster import Address
from modelserver_runtime.gateway.front.pods import Pods
from modelserver_runtime.gateway.request import Request
from modelserver_runtime.gateway.sending import Sending
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
        self._sending: Sending | None = None

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
            sending = self._sending = await self._connect(body)
            connection = sending.connection
            try:
                return connection, await sending.ask(content, self._seconds)
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

    async def _connect(self, body: Body) -> Sending:
        failure = UpstreamUnreachable("the model has no pod that could be asked")
        while True:
            pod = self._balancer.choose(now=self._clock(), key=self._key, without=self._tried)
            if pod is None:
                raise failure
            self._tried.add(pod)
            self._pod = pod
            pool = self._pods.pool(pod)
            try:
                connection = await pool.take()
            except UpstreamUnreachable as error:
                failure = error
                self._note(is_well=False)
                continue
            self._balancer.begin(pod, self._key)
            return Sending(pool, connection, self._request, body)

    def _note(self, *, is_well: bool) -> None:
        if self._pod is not None:
            self._balancer.note(self._pod, is_well=is_well, now=self._clock())

    def _end(self) -> None:
        sending, self._sending = self._sending, None
        if sending is not None and self._pod is not None:
            self._balancer.end(self._pod, self._key)
            sending.end()


def _answered(head: Head, identity: bytes) -> Iterable[tuple[bytes, bytes]]:
    """The pod's headers, and its revision if it says so; a router's is passed on unchanged."""
    revisions = headers.values_of(head.headers, headers.REVISION.decode())
    revisions += headers.values_of(head.headers, "x-model-revision")
    revision = revisions[0] if revisions else ""
    for name, value in headers.answered(head.headers, revision=revision, identity=identity):
        if name != headers.REVISION or value:
            yield name, value
