"""A reverse proxy before the API server that counts, kills, cuts, fails, forgets and delays.

    operator ── http ──> FaultProxy ── https ──> kube-apiserver

Each replica of the operator gets a proxy of its own; the test controls it by plain calls:

    proxy.seen, proxy.writes()            every request in order, with the status of its answer
    proxy.kill_at(3, "after", process)    SIGKILL before or after the third write is forwarded
    proxy.fail(503, verbs={"list"})       answers instead of the API server, until it is mended
    proxy.fail(429, retry_after=2)        with Retry-After
    proxy.page_size = 2                   lists come in small pages
    proxy.fail(410, where=is_continued)   the continue token of a paged list has expired
    proxy.postpone(where)                 one request waits at the proxy until it is released
    proxy.revoke(token)                   401 for that token, as when it has expired
    proxy.cut_watches("services")         ends streams in the middle
    proxy.hold_watches()                  `with`: streams stay open and silent
    proxy.blackout()                      `with`: no stream at all; then every watch begins with 410
    proxy.send_error(500)                 an ERROR event in the streams that are open
    proxy.drop("DELETED", "services")     those events are never seen
    proxy.lag_seconds = 0.5               every event comes late

`proxy.calm()` undoes all of it.
"""

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Collection, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp
from aiohttp import web
from yarl import URL

from support.api_request import ApiRequest
from support.faults import (
    DroppedEvents,
    Failure,
    KillPoint,
    Postponed,
    Predicate,
    Seen,
    Side,
    Stream,
    Victim,
    abort,
    error_event,
    is_counted,
    status_object,
)

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "host"}
_GONE = 410


def is_anything(_request: ApiRequest) -> bool:
    return True


class FaultProxy:
    """One proxy on a port of its own, run by a thread of its own."""

    def __init__(self, upstream: str, *, ca_file: Path) -> None:
        self.url = ""
        self.seen: list[Seen] = []
        self.lag_seconds = 0.0
        self.page_size = 0
        self.held_back = 0  # events that wait for the end of hold_watches()
        self._upstream = upstream
        self._tls = ssl.create_default_context(cafile=str(ca_file))
        self._failures: list[Failure] = []
        self._dropped: list[DroppedEvents] = []
        self._kill_point: KillPoint | None = None
        self._postponed: Postponed | None = None
        self._revoked: set[str] = set()
        self._streams: set[Stream] = set()
        self._dark = False
        self._expired_before = 0  # watches of streams first seen before this epoch get a 410
        self._epochs: dict[str, int] = {}
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._stopped = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)

    # -- what the test calls ---------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10), "the proxy did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the proxy did not stop"

    def writes(self, since: int = 0, namespace: str = "") -> list[Seen]:
        """What was written from request number `since` on, renewals of the Lease left out.

        With `namespace` only there: the namespaces of earlier tests may still be ending.
        """
        return [
            seen
            for seen in self.seen[since:]
            if is_counted(seen.request) and (not namespace or seen.request.namespace == namespace)
        ]

    @staticmethod
    def now() -> float:
        """The clock of `Seen.at`."""
        return time.monotonic()

    def kill_at(
        self, number: int, side: Side, victim: Victim, where: Predicate = is_counted
    ) -> KillPoint:
        """Counts from now on; a second call replaces the first."""
        self._kill_point = KillPoint(number=number, side=side, victim=victim, where=where)
        return self._kill_point

    def spare(self) -> None:
        self._kill_point = None

    def postpone(self, where: Predicate = is_counted) -> Postponed:
        """The next matching request is forwarded only when it is released, whoever waits for it."""
        self._postponed = Postponed(where=where)
        return self._postponed

    def release(self, postponed: Postponed) -> None:
        self._loop.call_soon_threadsafe(postponed.released.set)

    def fail(
        self,
        status: int,
        *,
        verbs: Collection[str] | None = None,
        resources: Collection[str] | None = None,
        where: Predicate = is_anything,
        times: int | None = None,
        retry_after: float | None = None,
    ) -> Failure:
        """Answers matching requests with a Status of that code; status 0 breaks the connection."""

        def matches(request: ApiRequest) -> bool:
            return (
                (verbs is None or request.verb in verbs)
                and (resources is None or request.target in resources)
                and where(request)
            )

        headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
        failure = Failure(status=status, where=matches, headers=headers, times=times)
        self._failures.append(failure)
        return failure

    def mend(self, failure: Failure) -> None:
        self._failures.remove(failure)

    @contextmanager
    def failing(self, status: int, **options: Any) -> Iterator[Failure]:
        failure = self.fail(status, **options)
        try:
            yield failure
        finally:
            self.mend(failure)

    def revoke(self, token: str) -> None:
        self._revoked.add(token)

    @property
    def open_watches(self) -> list[ApiRequest]:
        return [stream.request for stream in list(self._streams)]

    def cut_watches(self, resource: str | None = None) -> int:
        """Breaks the connections of the streams; returns how many there were."""
        return self._wait_for(self._cut(resource))

    @contextmanager
    def hold_watches(self) -> Iterator[None]:
        """The client sees no event and no end; what was held back follows afterwards."""
        self._loop.call_soon_threadsafe(self._flowing.clear)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._flowing.set)

    @contextmanager
    def blackout(self, *, expired: bool = True) -> Iterator[None]:
        """Streams are cut and refused; afterwards each resource's next watch gets a 410 event.

        What happens meanwhile the client can only learn from a new list.
        """
        self._dark = True
        self.cut_watches()
        try:
            yield
        finally:
            self._expired_before += int(expired)
            self._dark = False

    def send_error(self, code: int, resource: str | None = None) -> int:
        """Sends an ERROR event on the open streams and ends them, as the API server does."""
        return self._wait_for(self._send_error(code, resource))

    def drop(
        self, type_: str, resource: str | None = None, times: int | None = None
    ) -> DroppedEvents:
        dropped = DroppedEvents(type=type_, resource=resource, times=times)
        self._dropped.append(dropped)
        return dropped

    def calm(self) -> None:
        self._failures.clear()
        self._dropped.clear()
        self._revoked.clear()
        self._kill_point = None
        self._dark = False
        self.lag_seconds = 0.0
        self.page_size = 0
        if self._postponed is not None:
            self.release(self._postponed)
        self._loop.call_soon_threadsafe(self._flowing.set)

    # -- the server --------------------------------------------------------------------------

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._flowing.set()
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False, read_bufsize=2**20
        ) as self._session:
            runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            self._ready.set()
            await self._stopped.wait()
            await self._cut(None)
            await runner.cleanup()
        await asyncio.sleep(0.05)  # connections close in later turns of the loop

    def _wait_for[T](self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=10)

    async def _handle(self, incoming: web.BaseRequest) -> web.StreamResponse:
        query = dict(incoming.query)
        request = ApiRequest.parse(incoming.method, incoming.path, query)
        seen = Seen(
            at=time.monotonic(),
            request=request,
            query=query,
            user_agent=incoming.headers.get("User-Agent", ""),
            body=await incoming.read(),
        )
        self.seen.append(seen)
        if (answer := self._injected(incoming, request)) is not None:
            seen.status = answer.status
            return answer
        if request.verb == "watch":
            return await self._watch(incoming, seen)
        return await self._forward(incoming, seen)

    def _injected(self, incoming: web.BaseRequest, request: ApiRequest) -> web.Response | None:
        token = incoming.headers.get("Authorization", "").removeprefix("Bearer ")
        if token in self._revoked:
            return _failed(401, {})
        if self._dark and request.verb == "watch":
            return _broken(incoming)
        for failure in list(self._failures):
            if failure.meets(request):
                known = failure.status != 0
                return _failed(failure.status, failure.headers) if known else _broken(incoming)
        return None

    async def _forward(self, incoming: web.BaseRequest, seen: Seen) -> web.StreamResponse:
        point = self._kill_point
        struck = point if point and point.is_reached_by(seen.request) else None
        if struck and struck.side == "before":
            struck.strike()
            return _broken(incoming)
        postponed = await self._postpone(seen.request)
        async with self._ask(incoming, seen) as answer:
            body = await answer.read()
            seen.status = answer.status
            if postponed:
                postponed.answer(answer.status)
            if struck:
                struck.strike()
                return _broken(incoming)
            return web.Response(status=answer.status, body=body, headers=_passed_on(answer.headers))

    async def _postpone(self, request: ApiRequest) -> Postponed | None:
        postponed = self._postponed
        if postponed is None or not postponed.takes(request):
            return None
        await postponed.released.wait()
        return postponed

    def _ask(self, incoming: web.BaseRequest, seen: Seen) -> Any:
        path = self._upstream + incoming.raw_path
        if self.page_size and seen.request.verb == "list":
            path = str(URL(path, encoded=True).update_query(limit=self.page_size))
        return self._session.request(
            incoming.method,
            URL(path, encoded=True),
            data=seen.body or None,
            headers=_passed_on(incoming.headers),
        )

    async def _watch(self, incoming: web.BaseRequest, seen: Seen) -> web.StreamResponse:
        if self._is_first_after_blackout(seen):
            seen.status = 200
            return web.Response(body=error_event(_GONE), content_type="application/json")
        async with self._ask(incoming, seen) as answer:
            seen.status = answer.status
            headers = _passed_on(answer.headers)
            if answer.status != 200:
                return web.Response(status=answer.status, body=await answer.read(), headers=headers)
            return await self._stream(incoming, seen.request, answer)

    def _is_first_after_blackout(self, seen: Seen) -> bool:
        """Only a watch that continues from before the blackout: it has a version to go on from."""
        key = f"{seen.request.group}/{seen.request.resource}/{seen.request.namespace}"
        if self._epochs.get(key, 0) >= self._expired_before:
            return False
        self._epochs[key] = self._expired_before
        return seen.query.get("resourceVersion", "") not in {"", "0"}

    async def _stream(
        self, incoming: web.BaseRequest, request: ApiRequest, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=_passed_on(answer.headers))
        stream = Stream(request, response, incoming)
        try:
            await response.prepare(incoming)
            self._streams.add(stream)
            async for line in answer.content:
                await self._pass_on(stream, line)
        except ConnectionError:
            pass  # the client went away, or the stream was cut
        finally:
            self._streams.discard(stream)
        return response

    async def _pass_on(self, stream: Stream, line: bytes) -> None:
        if self.lag_seconds:
            await asyncio.sleep(self.lag_seconds)
        if not self._flowing.is_set():
            self.held_back += 1
            await self._flowing.wait()
            self.held_back -= 1
        if self._dropped and self._is_dropped(stream.request, line):
            return
        await stream.send(line)

    def _is_dropped(self, request: ApiRequest, line: bytes) -> bool:
        event = json.loads(line)
        return any(dropped.takes(request, event) for dropped in self._dropped)

    def _matching(self, resource: str | None) -> list[Stream]:
        return [s for s in self._streams if resource in {None, s.request.resource}]

    async def _cut(self, resource: str | None) -> int:
        streams = self._matching(resource)
        for stream in streams:
            stream.cut()
        return len(streams)

    async def _send_error(self, code: int, resource: str | None) -> int:
        sent = [await stream.try_send(error_event(code)) for stream in self._matching(resource)]
        return sum(sent)


def _passed_on(headers: Any) -> dict[str, str]:
    kept = {k: v for k, v in headers.items() if k.lower() not in _HOP_BY_HOP}
    return {k: v for k, v in kept.items() if k.lower() != "content-length"}


def _failed(status: int, headers: dict[str, str]) -> web.Response:
    return web.json_response(status_object(status), status=status, headers=headers)


def _broken(incoming: web.BaseRequest) -> web.Response:
    """The connection ends without an answer."""
    abort(incoming)
    return web.Response(status=502)
