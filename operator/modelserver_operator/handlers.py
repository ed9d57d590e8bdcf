"""kopf as the watch of ModelServers: it tells what happens and writes nothing to anybody.

    main thread   queue, informers, Lease, reconciler ──── Feed.put / remove / relisted
                                                              ^ call_soon_threadsafe
    kopf's thread, one after another                       kopf.operator() with on.event only

kopf believes that the whole event loop is its own: when it ends it cancels every task it finds. So
it has a thread and a loop to itself, and may end (it does on most ERROR events of a watch, and
when the CRD is deleted) without disturbing anything: it is started again.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import aiohttp
import kopf

from modelserver_operator.cluster.access import Access
from modelserver_operator.cluster.client import ApiClient
from modelserver_operator.cluster.patience import Backoff, delay_after, pause
from modelserver_operator.cluster.transport import RequestObserver, open_session
from modelserver_operator.errors import ClusterError, NotFound
from modelserver_operator.plan.values import Manifest
from modelserver_operator.resources.kinds import MODEL_SERVER

# kopf asks again at least this often: its watches end after 290 s, and after 70 s of silence.
LONGEST_SILENCE_SECONDS = 400.0
LOOK_SECONDS = 5.0

# A kopf, or a session of its, that lived for this long was a good one.
GOOD_LIFE_SECONDS = 60.0

MOST_CONNECTIONS = 8

log = logging.getLogger(__name__)


class Feed(Protocol):
    """Who is told, in the main loop, what the watch saw."""

    def put(self, manifest: Manifest) -> None: ...

    def remove(self, manifest: Manifest) -> None: ...

    def relisted(self) -> None: ...

    def restarted(self, kind: str, cause: str) -> None: ...


class EndlessBackoff:
    """kopf iterates this anew for every request; one that ended would end kopf."""

    def __iter__(self) -> Iterator[float]:
        failures = 0
        while True:
            yield delay_after(failures, first=0.5, longest=5.0)
            failures += 1


def settings_of_kopf() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True  # no rights on CRDs and namespaces needed
    settings.peering.standalone = True  # the Lease decides who writes
    settings.posting.enabled = False  # events are ours
    settings.watching.inactivity_timeout = 70
    settings.watching.server_timeout = 290
    settings.watching.client_timeout = 300
    settings.watching.connect_timeout = 5
    settings.watching.reconnect_backoff = 0.5
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = EndlessBackoff()
    settings.networking.enforce_retry_after = True
    settings.queueing.idle_timeout = 1.0  # handlers only pass things on
    settings.process.ultimate_exiting_timeout = None  # it would kill the whole process
    return settings


class ModelServerWatch:
    """Keeps one kopf running, for ever."""

    def __init__(
        self,
        access: Access,
        client: ApiClient,
        feed: Feed,
        requests: RequestObserver,
        *,
        namespaces: tuple[str, ...],
    ) -> None:
        self._access = access
        self._client = client
        self._feed = feed
        self._requests = requests
        self._namespaces = namespaces
        self._backoff = Backoff(first_seconds=0.5, longest_seconds=10.0)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._until_served()
            begun = loop.time()
            cause = await self._live_once()
            self._feed.restarted(MODEL_SERVER.kind, cause)
            if loop.time() - begun > GOOD_LIFE_SECONDS:
                self._backoff.reset()
            await pause(self._backoff.next_seconds())

    async def _live_once(self) -> str:
        """Returns why it ended."""
        life = Incarnation(self._access, self._feed, self._requests, self._namespaces)
        life.start()
        try:
            while not await pause(LOOK_SECONDS, life.ended):
                if life.silent_seconds() > LONGEST_SILENCE_SECONDS:
                    log.warning("kopf has not asked the API server for anything; starting another")
                    return "silence"
        finally:
            life.stop()
        log.warning("kopf ended and is started again: %s", life.failure)
        return type(life.failure).__name__

    async def _until_served(self) -> None:
        """kopf looks only once whether the CRD is there, and would wait for ever if it is not."""
        backoff = Backoff(first_seconds=0.2, longest_seconds=5.0)
        while True:
            try:
                if await self._is_served():
                    return
                log.warning("the CRD of ModelServers is not installed; waiting for it")
            except ClusterError as failure:
                log.warning("the API server cannot be asked for its resources: %s", failure)
            await pause(backoff.next_seconds())

    async def _is_served(self) -> bool:
        group = MODEL_SERVER.api_version.partition("/")[0]
        groups = await self._client.discover("/apis")
        if group not in {one["name"] for one in groups["groups"]}:
            return False
        try:
            resources = await self._client.discover(MODEL_SERVER.path)
        except NotFound:
            return False
        return MODEL_SERVER.plural in {one["name"] for one in resources["resources"]}


class Incarnation:
    """One life of kopf, in a thread and a loop of its own; it is never started twice."""

    def __init__(
        self,
        access: Access,
        feed: Feed,
        requests: RequestObserver,
        namespaces: tuple[str, ...],
    ) -> None:
        self._access = access
        self._feed = feed
        self._requests = requests
        self._namespaces = namespaces
        self._main = asyncio.get_running_loop()
        self._asked_at = self._main.time()
        self._stop: Callable[[], object] = lambda: None
        self._logins = Backoff(first_seconds=0.5, longest_seconds=5.0)
        self._logged_in_at = -GOOD_LIFE_SECONDS
        self.failure: BaseException | None = None
        self.ended = asyncio.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="kopf", daemon=True).start()

    def stop(self) -> None:
        self._stop()

    def silent_seconds(self) -> float:
        return self._main.time() - self._asked_at

    # -- in kopf's thread ----------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._operate())
        except Exception as failure:  # noqa: BLE001  whatever it was, the supervisor goes on
            self.failure = failure
        finally:
            self._tell(self.ended.set)

    async def _operate(self) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._stop = lambda: None if loop.is_closed() else loop.call_soon_threadsafe(stop.set)
        await kopf.operator(
            registry=self._registry(),
            settings=settings_of_kopf(),
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            stop_flag=stop,
        )

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._log_in)
        group, version = MODEL_SERVER.api_version.split("/")
        kopf.on.event(group, version, MODEL_SERVER.plural, registry=registry)(self._see)
        return registry

    async def _log_in(self, **_: Any) -> kopf.AiohttpSession:
        """kopf asks for a session again when one was refused (401), at once and for ever."""
        now = asyncio.get_running_loop().time()
        if now - self._logged_in_at > GOOD_LIFE_SECONDS:
            self._logins.reset()
        else:
            await pause(self._logins.next_seconds())
        self._logged_in_at = now
        session = open_session(self._access, limit=MOST_CONNECTIONS, also=self._notice)
        return kopf.AiohttpSession(server=self._access.server, aiohttp_session=session)

    async def _see(self, event: kopf.RawEvent, **_: Any) -> None:
        tell = self._feed.remove if event["type"] == "DELETED" else self._feed.put
        self._tell(tell, event["object"])

    async def _notice(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        self._asked_at = self._main.time()
        response = await handler(request)
        of_servers = request.url.path.endswith(f"/{MODEL_SERVER.plural}")
        verb = "watch" if "watch" in request.url.query else "list" if of_servers else "get"
        kind = MODEL_SERVER.kind if of_servers else "discovery"
        self._tell(lambda: self._requests(verb=verb, kind=kind, code=response.status))
        if verb == "list":
            self._tell(self._feed.relisted)
        return response

    def _tell(self, what: Callable[..., object], *arguments: object) -> None:
        try:
            self._main.call_soon_threadsafe(what, *arguments)
        except RuntimeError:  # the main loop is closed: the process ends
            log.debug("nobody listens any more")
