"""One replica of the operator: its caches are always warm, its workers run while it leads."""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime

from modelserver_operator.cluster.client import ApiClient, ObjectName
from modelserver_operator.cluster.informer import MANAGED, Informer
from modelserver_operator.cluster.lease import Leadership, Terms
from modelserver_operator.cluster.optional import OptionalInformers
from modelserver_operator.cluster.patience import jittered, pause
from modelserver_operator.config import OperatorConfig
from modelserver_operator.plan.values import Manifest
from modelserver_operator.reconciler.audit import ServerAudit
from modelserver_operator.reconciler.caches import Caches
from modelserver_operator.reconciler.gateways import Gateways
from modelserver_operator.reconciler.queue import WorkQueue
from modelserver_operator.reconciler.reconciler import Probes, Reconciler
from modelserver_operator.reconciler.workers import Workers
from modelserver_operator.resources.holder_slice import SLICE_MANAGED_BY
from modelserver_operator.resources.kinds import CHILD_KINDS, ENDPOINT_SLICE, POD
from modelserver_operator.resources.labels import MANAGED_BY
from modelserver_operator.resources.router_choice import Capabilities
from modelserver_operator.telemetry.lag import LoopLag
from modelserver_operator.telemetry.metrics import Gauges, Metrics, Reading

# What was begun may end; less than the 30 s that a pod has to terminate, the Lease included.
FINISH_SECONDS = 15.0

# A resync spreads its keys over this part of its interval.
RESYNC_SPREAD = 0.1

# Beyond these the process is not alive in any useful sense, and a restart is cheap and silent.
# Watches: two bookmarks missed, and no attempt made to renew.
LONGEST_SILENCE_SECONDS = 150.0
LONGEST_WAIT_SECONDS = 300.0
LONGEST_LAG_SECONDS = 5.0

# Services pass their labels on to the slices that Kubernetes writes for them: those are not ours.
SELECTORS = {ENDPOINT_SLICE: f"{MANAGED},{SLICE_MANAGED_BY}={MANAGED_BY}"}

log = logging.getLogger(__name__)
_chance = random.SystemRandom()


class Replica:
    def __init__(
        self,
        client: ApiClient,
        probes: Probes,
        config: OperatorConfig,
        metrics: Metrics,
        clock: Callable[[], datetime],
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._caches = Caches()
        self._queue: WorkQueue[ObjectName] = WorkQueue()
        self._leadership = _leadership(client, config, clock)
        self._informers = [
            Informer(
                client,
                self._caches.of[kind.kind],
                self,
                kind=kind,
                namespace=namespace,
                labels=SELECTORS.get(kind, MANAGED),
            )
            for kind in (*CHILD_KINDS, POD)
            for namespace in config.namespaces or ("",)
        ]
        self._gateways = Gateways(
            client,
            namespace=config.namespace,
            concerned=self._look_at_holders,
            restarted=self.restarted,
        )
        self._informers.append(self._gateways.informer)
        self._optional = OptionalInformers(
            client, self._caches.of, self, self.capable, namespaces=config.namespaces
        )
        self._audit = ServerAudit(
            client,
            self._caches.servers,
            self.changed,
            namespaces=config.namespaces,
            interval_seconds=config.resync_seconds,
        )
        reconciler = Reconciler(
            client,
            self._caches,
            config,
            guard=self._leadership,
            probes=probes,
            clock=clock,
            absorb=self._queue.absorb,
            decided=metrics.decided,
        )
        self._workers = Workers(
            self._queue, reconciler.reconcile, metrics, concurrency=config.concurrency
        )
        self._lag = LoopLag()

    # -- news: from the informers, and from the watch of ModelServers -------------------------

    def changed(self, servers: set[ObjectName]) -> None:
        for server in servers:
            self._queue.add(server)

    def restarted(self, kind: str, cause: str) -> None:
        self._metrics.restarted(kind, cause)

    def capable(self, capabilities: Capabilities) -> None:
        """Every server may now be wanted otherwise."""
        self._caches.found.capabilities = capabilities
        self.changed(set(self._caches.servers))

    def _look_at_holders(self) -> None:
        """Whoever sleeps has the gateway's addresses in its place."""
        self._caches.found.gateways = self._gateways.ready
        self.changed(self._caches.ports.holders)

    def put(self, manifest: Manifest) -> None:
        self.changed(self._caches.servers.put(manifest))

    def remove(self, manifest: Manifest) -> None:
        self.changed(self._caches.servers.remove(manifest))

    def relisted(self) -> None:
        """The watch has lost its thread; what was deleted meanwhile it will not tell."""
        self._audit.ask()

    # -- life ----------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; then ends what was begun and gives the Lease away."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(informer.run()) for informer in self._informers]
            tasks.append(group.create_task(self._optional.run()))
            tasks += [group.create_task(self._audit.run()), group.create_task(self._resync())]
            leading = group.create_task(self._lead(group))
            await stop.wait()
            await self._finish(leading)
            for task in tasks:
                task.cancel()

    async def _lead(self, group: asyncio.TaskGroup) -> None:
        for synced in self._syncing():
            await synced.wait()
        log.info("caches are filled: %d ModelServers", len(self._caches.servers))
        terms = [
            group.create_task(self._leadership.run()),
            group.create_task(self._leadership.watch_deadline()),
        ]
        try:
            while not self._queue.is_closed:
                await self._leadership.gained.wait()
                self.changed(set(self._caches.servers))
                await self._work_until_lost()
        finally:
            for task in terms:
                task.cancel()

    async def _work_until_lost(self) -> None:
        work = asyncio.create_task(self._workers.run())
        lost = asyncio.create_task(self._leadership.lost.wait())
        try:
            await asyncio.wait((work, lost), return_when=asyncio.FIRST_COMPLETED)
        finally:
            lost.cancel()
            work.cancel()
            await asyncio.gather(work, lost, return_exceptions=True)
        if not work.cancelled():
            work.result()

    async def _finish(self, leading: asyncio.Task[None]) -> None:
        log.info("stopping")
        self._queue.close()
        if self._leadership.is_held():
            await asyncio.wait((leading,), timeout=FINISH_SECONDS)
        leading.cancel()
        await self._leadership.release()

    async def _resync(self) -> None:
        while True:
            await pause(jittered(self._config.resync_seconds))
            spread = self._config.resync_seconds * RESYNC_SPREAD
            for server in self._caches.servers:
                self._queue.add_after(server, _chance.uniform(0, spread))

    # -- health --------------------------------------------------------------------------------

    def _syncing(self) -> list[asyncio.Event]:
        listed = [informer.synced for informer in self._informers]
        return [self._audit.synced, self._optional.settled, *listed]

    def not_ready(self) -> Sequence[str]:
        missing = [one.kind.kind for one in self._informers if not one.synced.is_set()]
        missing += [] if self._audit.synced.is_set() else ["ModelServer"]
        waiting = [f"{kind}: not listed yet" for kind in missing]
        settled = self._optional.settled.is_set()
        return waiting if settled else [*waiting, "optional kinds: not looked for yet"]

    def not_alive(self) -> Sequence[str]:
        now = asyncio.get_running_loop().time()
        found = [
            f"watch of {one.kind.plural} silent for {one.silent_seconds(now):.0f} s"
            for one in (*self._informers, *self._optional.informers)
            if one.silent_seconds(now) > LONGEST_SILENCE_SECONDS
        ]
        if self._leadership.is_held() and self._queue.oldest_seconds() > LONGEST_WAIT_SECONDS:
            found.append(f"a key has waited for {self._queue.oldest_seconds():.0f} s")
        if self._lag.seconds() > LONGEST_LAG_SECONDS:
            found.append(f"the event loop is {self._lag.seconds():.1f} s late")
        return found

    def show(self, gauges: Gauges) -> None:
        queue = self._queue
        gauges.add("queue_depth", "ModelServers that wait to be looked at.", lambda: queue.depth)
        gauges.add("queue_oldest_seconds", "How long the first has waited.", queue.oldest_seconds)
        gauges.add("queue_retries", "ModelServers that failed last time.", lambda: queue.retrying)
        gauges.add("leader", "1 in the replica that writes.", self._leadership.is_held)
        gauges.add_labelled(
            "modelservers", "ModelServers by the reason of Ready.", ("reason",), self._states
        )
        gauges.add_labelled(
            "rollouts", "Changes of revision, by phase.", ("phase",), self._rollouts
        )
        self._lag.show(gauges)

    def _rollouts(self) -> list[Reading]:
        manifests = map(self._caches.servers.get, self._caches.servers)
        counted = Counter(phase for one in manifests if one and (phase := _rollout_phase(one)))
        return [((phase,), count) for phase, count in counted.items()]

    def _states(self) -> list[Reading]:
        manifests = map(self._caches.servers.get, self._caches.servers)
        counted = Counter(_ready_reason(one) for one in manifests if one)
        return [((reason,), count) for reason, count in counted.items()]


def _leadership(
    client: ApiClient, config: OperatorConfig, clock: Callable[[], datetime]
) -> Leadership:
    terms = Terms(
        duration=config.lease_duration_seconds,
        renew=config.lease_renew_seconds,
        retry=config.lease_retry_seconds,
    )
    where = ObjectName(config.namespace, config.lease_name)
    return Leadership(client, where, identity=config.identity, terms=terms, wall_clock=clock)


def _rollout_phase(server: Manifest) -> str:
    rollout = (server.get("status") or {}).get("rollout") or {}
    return str(rollout.get("phase") or "")


def _ready_reason(server: Manifest) -> str:
    for condition in (server.get("status") or {}).get("conditions") or ():
        if condition["type"] == "Ready":
            return str(condition["reason"])
    return "Unknown"
