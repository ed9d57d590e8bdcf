"""Leadership by a Lease: one replica writes, the others keep their caches warm."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelserver_operator.cluster.client import LEASE, ApiClient, ObjectName
from modelserver_operator.cluster.patience import jittered, pause
from modelserver_operator.errors import ClusterError, Conflict, NotFound, NotLeading
from modelserver_operator.plan.values import Manifest

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Seconds: how long a lease holds, until when its holder must have renewed, how often it tries.

    The holder stops `duration - renew` before anybody else may start.
    """

    duration: float
    renew: float
    retry: float


class Leadership:
    """Takes and keeps the Lease; measures time by the loop's monotonic clock only.

    Another holder's term is counted from when we saw its record change, never by comparing clocks
    of two machines.
    """

    def __init__(
        self,
        client: ApiClient,
        where: ObjectName,
        *,
        identity: str,
        terms: Terms,
        wall_clock: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._where = where
        self._identity = identity
        self._terms = terms
        self._wall_clock = wall_clock
        self._held_until = 0.0
        self._mine: Manifest | None = None  # as of our last write
        self._seen = ""  # the version of somebody else's record, and when we first saw it
        self._seen_at = 0.0
        self._trouble = ""
        self.gained = asyncio.Event()
        self.lost = asyncio.Event()
        self.lost.set()

    def is_held(self) -> bool:
        return self._now() < self._held_until

    def check(self) -> None:
        """Before every write: a process that was stopped and wakes up late must not write."""
        if not self.is_held():
            raise NotLeading("another replica may hold the Lease by now; nothing was written")

    async def run(self) -> None:
        """Tries for ever; `gained` and `lost` tell how it stands."""
        while True:
            await self._attempt()
            self._publish()
            await pause(jittered(self._terms.retry))

    async def watch_deadline(self) -> None:
        """Notices the end of our term even while a renewal hangs."""
        while True:
            await self.gained.wait()
            await pause(max(0.01, self._held_until - self._now()))
            self._publish()

    async def release(self) -> None:
        """Lets a follower take over at once instead of after the whole term."""
        if not self.is_held():
            return
        self._held_until = 0.0
        self._publish()
        try:
            lease = self._mine or await self._client.get(LEASE, self._where)
            if lease["spec"].get("holderIdentity") == self._identity:
                await self._put(lease, holder="", term=1)
        except ClusterError as failure:
            log.warning("the Lease could not be released: %s", failure)

    async def _attempt(self) -> None:
        begun = self._now()
        try:
            async with asyncio.timeout(self._terms.renew / 2):
                if await self._take():
                    self._held_until = begun + self._terms.renew
                self._trouble = ""
        except (ClusterError, TimeoutError) as failure:
            self._complain(str(failure) or "no answer in time")

    def _complain(self, trouble: str) -> None:
        """Once, not at every attempt."""
        level = logging.DEBUG if trouble == self._trouble else logging.WARNING
        self._trouble = trouble
        log.log(level, "the Lease could not be read or written: %s", trouble)

    async def _take(self) -> bool:
        if self._mine is not None:
            return await self._put(self._mine, holder=self._identity, term=self._terms.duration)
        try:
            lease = await self._client.get(LEASE, self._where)
        except NotFound:
            return await self._create()
        if not self._may_take(lease):
            self._held_until = 0.0
            return False
        return await self._put(lease, holder=self._identity, term=self._terms.duration)

    def _may_take(self, lease: Manifest) -> bool:
        """Ours, nobody's, or not renewed for a whole term that we have watched ourselves."""
        spec = lease.get("spec") or {}
        if spec.get("holderIdentity") in {None, "", self._identity}:
            return True
        version = lease["metadata"]["resourceVersion"]
        if version != self._seen:
            self._seen, self._seen_at = version, self._now()
        term = float(spec.get("leaseDurationSeconds") or self._terms.duration)
        return self._now() > self._seen_at + term

    async def _create(self) -> bool:
        lease = {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": {"namespace": self._where.namespace, "name": self._where.name},
            "spec": self._spec({}, holder=self._identity, term=self._terms.duration),
        }
        try:
            self._mine = await self._client.create(LEASE, self._where.namespace, lease)
        except Conflict:
            return False
        return True

    async def _put(self, lease: Manifest, *, holder: str, term: float) -> bool:
        """Against the version that we read: of two who take it, one gets a Conflict."""
        spec = self._spec(lease.get("spec") or {}, holder=holder, term=term)
        version = lease["metadata"]["resourceVersion"]
        self._mine = None  # unless the answer says so
        try:
            self._mine = await self._client.replace(LEASE, lease | {"spec": spec}, version=version)
        except Conflict:
            return False
        return True

    def _spec(self, old: Manifest, *, holder: str, term: float) -> dict[str, Any]:
        now = self._wall_clock().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = old | {
            "holderIdentity": holder,
            "leaseDurationSeconds": max(1, round(term)),
            "renewTime": now,
        }
        if old.get("holderIdentity") != holder:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = int(old.get("leaseTransitions") or 0) + 1
        return spec

    def _publish(self) -> None:
        if self.is_held() and not self.gained.is_set():
            log.info("this replica leads")
            self.lost.clear()
            self.gained.set()
        elif not self.is_held() and self.gained.is_set():
            log.warning("this replica does not lead any more")
            self.gained.clear()
            self.lost.set()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
