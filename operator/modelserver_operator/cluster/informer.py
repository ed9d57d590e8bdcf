"""Keeps a Store true: list, then watch, then list again whenever the thread is lost; never ends."""

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from modelserver_operator.cluster.client import ApiClient, ObjectName
from modelserver_operator.cluster.patience import Backoff, pause
from modelserver_operator.cluster.store import Store
from modelserver_operator.cluster.transport import translate
from modelserver_operator.errors import ClusterError, Expired, Unavailable
from modelserver_operator.resources.kinds import Kind

MANAGED = "app.kubernetes.io/managed-by=modelserver-operator"

# A watch is renewed about this often by itself; spread, so that the kinds do not fall together.
WATCH_SECONDS = (240, 300)

# A list from time to time proves the store even if every watch were perfect.
RELIST_SECONDS = 1800.0

# A server that ends every watch at once must not be asked again at once.
SHORTEST_WATCH_SECONDS = 1.0

FIRST_BACKOFF_SECONDS = 0.2
LONGEST_BACKOFF_SECONDS = 10.0

log = logging.getLogger(__name__)
_chance = random.SystemRandom()


class InformerObserver(Protocol):
    """Who wants to know: which servers have news, and why a watch had to begin again."""

    def changed(self, servers: set[ObjectName]) -> None: ...

    def restarted(self, kind: str, cause: str) -> None: ...


@dataclass(slots=True)
class Thread:
    """Where the watch continues, and until when the list it began with is good enough."""

    version: str
    list_again_at: float


async def take_list(
    client: ApiClient,
    store: Store,
    changed: Callable[[set[ObjectName]], None],
    *,
    kind: Kind,
    namespace: str,
    labels: str = "",
) -> str:
    """Makes the store equal to a list, so that also what is gone is noticed.

    Returns the version that the list stands for. `changed` is told the servers for which it was
    news, of the first pages also when a later one fails: the next list finds them in the store
    and would call them nothing new.
    """
    uids: set[str] = set()
    news: set[ObjectName] = set()
    typed = {"apiVersion": kind.api_version, "kind": kind.kind}  # missing inside a list
    after = ""
    try:
        while True:
            page = await client.list_page(kind, namespace, labels=labels, after=after)
            for item in page.items:
                uids.add(item["metadata"]["uid"])
                news |= store.put(typed | item)
            if not (after := page.next_page):
                news |= store.retain(uids, int(page.version), namespace)
                return page.version
    finally:
        changed(news)


class Informer:
    """One kind in one namespace ("" for all of them)."""

    def __init__(
        self,
        client: ApiClient,
        store: Store,
        observer: InformerObserver,
        *,
        kind: Kind,
        namespace: str,
        labels: str = MANAGED,
    ) -> None:
        self.kind = kind
        self.synced = asyncio.Event()
        self._client = client
        self._store = store
        self._observer = observer
        self._namespace = namespace
        self._labels = labels
        self._backoff = Backoff(
            first_seconds=FIRST_BACKOFF_SECONDS, longest_seconds=LONGEST_BACKOFF_SECONDS
        )
        self._thread: Thread | None = None
        self._sign_of_life = asyncio.get_running_loop().time()

    def silent_seconds(self, now: float) -> float:
        """Since the last answer, event, bookmark or attempt: only a stuck informer is silent."""
        return now - self._sign_of_life

    async def run(self) -> None:
        while True:
            try:
                await self._follow()
            except ClusterError as failure:
                await self._recover(failure)
            except (KeyError, TypeError, ValueError) as e:  # not the API server's words
                await self._recover(Unavailable(f"answer not understood: {e!r}", status=500))

    async def _follow(self) -> None:
        if self._thread is None or self._thread.list_again_at < self._now():
            self._thread = await self._list()
        await self._watch(self._thread)

    async def _recover(self, failure: ClusterError) -> None:
        """A cut connection is continued from where it was; after anything else we list again."""
        if not isinstance(failure, Unavailable) or failure.status:
            self._thread = None
        cause = failure.reason or str(failure.status) if failure.status else "connection"
        self._observer.restarted(self.kind.kind, cause)
        self._alive()
        wanted = getattr(failure, "retry_after_seconds", None)
        seconds = self._backoff.next_seconds(at_least=wanted)
        level = logging.INFO if isinstance(failure, Expired) else logging.WARNING
        log.log(level, "watch interrupted: %s; again in %.1f s", failure, seconds)
        await pause(seconds)

    async def _list(self) -> Thread:
        version = await take_list(
            self._client,
            self._store,
            self._observer.changed,
            kind=self.kind,
            namespace=self._namespace,
            labels=self._labels,
        )
        self._alive()
        self.synced.set()
        return Thread(version=version, list_again_at=self._now() + RELIST_SECONDS)

    async def _watch(self, thread: Thread) -> None:
        lines = self._client.watch(
            self.kind,
            self._namespace,
            labels=self._labels,
            since=thread.version,
            seconds=_chance.randint(*WATCH_SECONDS),
        )
        begun = self._now()
        async with aclosing(lines):
            async for line in lines:
                self._alive()
                thread.version = self._take(orjson.loads(line))
                self._backoff.reset()
        if self._now() - begun < SHORTEST_WATCH_SECONDS:
            raise Unavailable(f"watch of {self.kind.plural} ended at once")

    def _take(self, event: dict[str, Any]) -> str:
        """Returns the version to continue from."""
        kind, thing = event["type"], event["object"]
        match kind:
            case "ADDED" | "MODIFIED":
                self._observer.changed(self._store.put(thing))
            case "DELETED":
                self._observer.changed(self._store.remove(thing))
            case "ERROR":
                raise translate(
                    f"watch of {self.kind.plural}: {thing.get('message')}",
                    status=int(thing.get("code") or 500),
                    reason=str(thing.get("reason") or "ERROR"),
                )
            case _:  # BOOKMARK: nothing but a version
                pass
        return str(thing["metadata"]["resourceVersion"])

    def _alive(self) -> None:
        self._sign_of_life = self._now()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
