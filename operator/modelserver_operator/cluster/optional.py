"""Informers of kinds that a cluster may have or not: they come and go with the definitions."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from modelserver_operator.cluster.client import ApiClient, ObjectName
from modelserver_operator.cluster.discovery import Discovery
from modelserver_operator.cluster.informer import Informer, InformerObserver
from modelserver_operator.cluster.patience import Backoff, jittered, pause
from modelserver_operator.cluster.store import Store
from modelserver_operator.errors import ClusterError
from modelserver_operator.resources.kinds import OPTIONAL_KINDS, Kind
from modelserver_operator.resources.router_choice import NO_CAPABILITIES, Capabilities

# One small document is read this often; nobody waits for it but who has just installed Istio.
LOOK_SECONDS = 30.0

# An API server that has just started may not publish all of its definitions yet.
LOOKS_UNTIL_GONE = 2

FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 10.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Following:
    """One kind, in each of the watched namespaces."""

    informers: Sequence[Informer]
    tasks: Sequence[asyncio.Task[None]]
    missed_looks: int = 0
    is_refused: bool = False

    @property
    def is_synced(self) -> bool:
        return all(one.synced.is_set() for one in self.informers)


class OptionalInformers:
    """`capabilities` has a kind only while its store is true, so that nothing is planned blindly.

    `settled` is set once it is known what the cluster has, and all of that is listed. A kind that
    we may not list (its rights were taken out on purpose) is waited for by nobody.
    """

    def __init__(
        self,
        client: ApiClient,
        stores: Mapping[str, Store],
        observer: InformerObserver,
        capable: Callable[[Capabilities], None],
        *,
        namespaces: tuple[str, ...],
    ) -> None:
        self.settled = asyncio.Event()
        self._client = client
        self._stores = stores
        self._observer = observer
        self._capable = capable
        self._namespaces = namespaces or ("",)
        self._discovery = Discovery(client)
        self._found: Capabilities | None = None
        self._told = NO_CAPABILITIES
        self._following: dict[Kind, Following] = {}
        self._wanted = asyncio.Event()
        self._backoff = Backoff(
            first_seconds=FIRST_BACKOFF_SECONDS, longest_seconds=LONGEST_BACKOFF_SECONDS
        )

    @property
    def informers(self) -> list[Informer]:
        return [one for following in self._following.values() for one in following.informers]

    # -- what informers tell ---------------------------------------------------------------------

    def changed(self, servers: set[ObjectName]) -> None:
        self._observer.changed(servers)

    def restarted(self, kind: str, cause: str) -> None:
        self._observer.restarted(kind, cause)
        if cause == "NotFound":  # the definition has gone: look soon
            self._wanted.set()
        if cause == "Forbidden":
            for followed, following in self._following.items():
                following.is_refused |= followed.kind == kind
            self._tell()

    # -- life ------------------------------------------------------------------------------------

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                if await self._look():
                    self._follow(group)
                    self._tell()
                    await pause(jittered(LOOK_SECONDS), self._wanted)
                    self._wanted.clear()

    async def _look(self) -> bool:
        try:
            self._found = await self._discovery.look()
        except ClusterError as failure:
            log.warning("what the cluster has cannot be asked: %s", failure)
            wanted = getattr(failure, "retry_after_seconds", None)
            await pause(self._backoff.next_seconds(at_least=wanted))
            return False
        self._backoff.reset()
        return True

    def _follow(self, group: asyncio.TaskGroup) -> None:
        """Start what has come, end what has gone."""
        kinds = self._found.kinds if self._found else frozenset()
        for kind in OPTIONAL_KINDS:
            following = self._following.get(kind)
            if kind in kinds and following is None:
                self._start(kind, group)
            elif following is not None:
                following.missed_looks = 0 if kind in kinds else following.missed_looks + 1
                if following.missed_looks >= LOOKS_UNTIL_GONE:
                    self._end(kind)

    def _start(self, kind: Kind, group: asyncio.TaskGroup) -> None:
        log.info("the cluster has %s of %s", kind.plural, kind.api_version)
        store = self._stores[kind.kind]
        informers = [
            Informer(self._client, store, self, kind=kind, namespace=namespace)
            for namespace in self._namespaces
        ]
        tasks = [group.create_task(one.run()) for one in informers]
        tasks.append(group.create_task(self._tell_when_synced(informers)))
        self._following[kind] = Following(informers, tasks)

    async def _tell_when_synced(self, informers: Sequence[Informer]) -> None:
        for informer in informers:
            await informer.synced.wait()
        self._tell()

    def _end(self, kind: Kind) -> None:
        log.info("the cluster has no %s of %s any more", kind.plural, kind.api_version)
        for task in self._following.pop(kind).tasks:
            task.cancel()
        store = self._stores[kind.kind]
        for where in store:
            self._observer.changed(store.forget(where))

    def _tell(self) -> None:
        if self._found is None:
            return
        kinds = frozenset(kind for kind, one in self._following.items() if one.is_synced)
        now = replace(self._found, kinds=kinds)
        if now != self._told:
            self._told = now
            self._capable(now)
        if all(one.is_synced or one.is_refused for one in self._following.values()):
            self.settled.set()
