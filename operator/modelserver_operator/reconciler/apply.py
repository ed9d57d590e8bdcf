"""Carries out a Plan: every write against exactly the version that was seen, or not at all."""

import logging
from typing import Protocol

from modelserver_operator.cluster.client import MUST_NOT_EXIST, ApiClient, ObjectName
from modelserver_operator.errors import Conflict, Forbidden, NotFound, Rejected
from modelserver_operator.plan.values import (
    ChildKey,
    Manifest,
    Observed,
    Plan,
    PodAnnotation,
    PodLabel,
    Refusal,
    Removal,
    Write,
    WriteMode,
)
from modelserver_operator.reconciler.caches import KINDS, Caches, ServerId, is_owned_by
from modelserver_operator.resources.kinds import POD
from modelserver_operator.scaling.handover import HANDOVER_MANAGER

log = logging.getLogger(__name__)


class Guard(Protocol):
    """Raises NotLeading where another replica may be writing by now."""

    def check(self) -> None: ...


class Applier:
    """Writes children; puts every answer into the caches, so that the next look is not stale.

    What was not as it was seen raises Conflict: whoever asked must look again.
    """

    def __init__(self, client: ApiClient, caches: Caches, guard: Guard) -> None:
        self._client = client
        self._caches = caches
        self._guard = guard

    async def apply(self, plan: Plan, observed: Observed, server: ServerId) -> Refusal | None:
        """Stops at the first write that is refused: no pod without the policy that confines it."""
        for write in plan.writes:
            if refusal := await self._write(write, observed, server):
                return refusal
        marks: tuple[PodLabel | PodAnnotation, ...] = (*plan.pod_labels, *plan.pod_annotations)
        for mark in marks:
            await self._mark(mark, server.where.namespace)
        for removal in plan.removals:
            await self._remove(removal, server.where.namespace)
        return None

    async def _write(self, write: Write, observed: Observed, server: ServerId) -> Refusal | None:
        key = ChildKey(write.manifest["kind"], write.manifest["metadata"]["name"])
        seen = observed.children.get(key) or observed.strangers.get(key)
        self._guard.check()
        try:
            written = await self._send(write, seen)
        except (Rejected, Forbidden) as refused:
            log.warning("%s %s was refused: %s", key.kind, key.name, refused)
            return Refusal(key=key, status=refused.status, message=str(refused))
        except (Conflict, NotFound):
            await self._look_at(key, server)
            raise
        log.info("wrote %s %s: %s", key.kind, key.name, write.reason)
        self._caches.of[key.kind].put(written)
        return None

    async def _send(self, write: Write, seen: Manifest | None) -> Manifest:
        kind = KINDS[write.manifest["kind"]]
        version = seen["metadata"]["resourceVersion"] if seen else MUST_NOT_EXIST
        if write.mode is WriteMode.REPLACE and seen:
            return await self._client.replace(kind, write.manifest, version=version)
        if write.mode is WriteMode.SHARE:
            return await self._client.apply(
                kind, write.manifest, version=version, manager=HANDOVER_MANAGER
            )
        return await self._client.apply(kind, write.manifest, version=version)

    async def _look_at(self, key: ChildKey, server: ServerId) -> None:
        """What is there instead of what we saw: ours, because a cache was behind, or a stranger."""
        where = ObjectName(server.where.namespace, key.name)
        try:
            live = await self._client.get(KINDS[key.kind], where)
        except NotFound:
            self._caches.of[key.kind].forget(where)
            return
        if is_owned_by(live, server.uid):
            self._caches.of[key.kind].put(live)
        else:
            self._caches.strangers.add(server.where, key, live)

    async def _mark(self, mark: PodLabel | PodAnnotation, namespace: str) -> None:
        self._guard.check()
        try:
            pod = await self._send_mark(mark, ObjectName(namespace, mark.pod))
        except (NotFound, Conflict, Rejected) as gone:
            log.info("pod %s is not the one we saw: %s", mark.pod, gone)
        else:
            self._caches.of[POD.kind].put(pod)

    async def _send_mark(self, mark: PodLabel | PodAnnotation, where: ObjectName) -> Manifest:
        if isinstance(mark, PodLabel):
            return await self._client.label_pod(
                where, uid=mark.uid, label=mark.label, value=mark.value
            )
        return await self._client.annotate_pod(
            where, uid=mark.uid, annotation=mark.annotation, value=mark.value
        )

    async def _remove(self, removal: Removal, namespace: str) -> None:
        where = ObjectName(namespace, removal.key.name)
        store = self._caches.of[removal.key.kind]
        self._guard.check()
        try:
            left = await self._client.delete(KINDS[removal.key.kind], where, uid=removal.uid)
        except NotFound:
            store.deleted_by_us(where, removal.uid)
        except Conflict as other:
            log.info("%s %s is not the one we saw: %s", removal.key.kind, where.name, other)
        else:
            log.info("deleted %s %s: %s", removal.key.kind, where.name, removal.reason)
            if "deletionTimestamp" in left.get("metadata", {}):  # a Status says that it is gone
                store.put(left)
            else:  # gone already: the answer is a Status or, for a Service, its last state
                store.deleted_by_us(where, removal.uid)
