"""Holds the cache of ModelServers against a list of its own, so that no ghost stays for long."""

import asyncio
import logging
from collections.abc import Callable

from modelserver_operator.cluster.client import ApiClient, ObjectName
from modelserver_operator.cluster.informer import take_list
from modelserver_operator.cluster.patience import Backoff, jittered, pause
from modelserver_operator.cluster.store import Store
from modelserver_operator.errors import ClusterError, NotFound, Unavailable
from modelserver_operator.resources.kinds import MODEL_SERVER

# A relist of the watch is followed by one of ours, after the watch has delivered what it knows.
SETTLE_SECONDS = 0.5

log = logging.getLogger(__name__)


class ServerAudit:
    """Lists at the start, when asked to, and at every resync.

    The watch cannot be trusted to tell of objects that were deleted while it was interrupted.
    """

    def __init__(
        self,
        client: ApiClient,
        store: Store,
        changed: Callable[[set[ObjectName]], None],
        *,
        namespaces: tuple[str, ...],
        interval_seconds: float,
    ) -> None:
        self.synced = asyncio.Event()
        self._client = client
        self._store = store
        self._changed = changed
        self._namespaces = namespaces or ("",)
        self._interval_seconds = interval_seconds
        self._wanted = asyncio.Event()
        self._backoff = Backoff(first_seconds=0.2, longest_seconds=10.0)

    def ask(self) -> None:
        """Audit soon."""
        self._wanted.set()

    async def run(self) -> None:
        while True:
            if await self._audit():
                self._backoff.reset()
                await self._rest()

    async def _rest(self) -> None:
        if await pause(jittered(self._interval_seconds), self._wanted):
            await pause(SETTLE_SECONDS)
        self._wanted.clear()

    async def _audit(self) -> bool:
        try:
            for namespace in self._namespaces:
                await take_list(
                    self._client,
                    self._store,
                    self._changed,
                    kind=MODEL_SERVER,
                    namespace=namespace,
                )
        except NotFound:
            self._forget_all()
            failure: ClusterError = Unavailable("the CRD of ModelServers is not installed")
        except ClusterError as e:
            failure = e
        else:
            self.synced.set()
            return True
        log.warning("ModelServers cannot be listed: %s", failure)
        await pause(self._backoff.next_seconds(getattr(failure, "retry_after_seconds", None)))
        return False

    def _forget_all(self) -> None:
        """Without the CRD there are none."""
        for where in self._store:
            self._changed(self._store.forget(where))
