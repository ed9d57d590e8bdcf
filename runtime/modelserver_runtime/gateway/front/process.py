"""The gateway's process: follows the cluster, listens, and ends as `process.ending` says."""

import asyncio
import logging
import random
import socket
import time
from collections.abc import Callable
from typing import Any

from modelserver_runtime.access.guard import Guard
from modelserver_runtime.access.opening import open_guard
from modelserver_runtime.gateway.administration import Administration
from modelserver_runtime.gateway.cluster import HoldBounds
from modelserver_runtime.gateway.cluster.client import Account, ApiClient
from modelserver_runtime.gateway.cluster.colleagues import Colleagues
from modelserver_runtime.gateway.cluster.following import Cluster
from modelserver_runtime.gateway.cluster.waking import Waker
from modelserver_runtime.gateway.doors import Doors, Sockets, run_to_end, until_refusal
from modelserver_runtime.gateway.front.administration import GatewayCollector, readiness
from modelserver_runtime.gateway.front.application import Front, front_door
from modelserver_runtime.gateway.front.boundary import Boundary
from modelserver_runtime.gateway.front.door import Door
from modelserver_runtime.gateway.front.exchange import Hall
from modelserver_runtime.gateway.front.listener import Listen, Ports, client_listener
from modelserver_runtime.gateway.front.pods import Pods
from modelserver_runtime.gateway.front.showing import Showing
from modelserver_runtime.gateway.front.traffic_metrics import TrafficCollector
from modelserver_runtime.gateway.holder import Holder
from modelserver_runtime.gateway.page.desk import KeyDesk
from modelserver_runtime.gateway.page.page import Page, Sources
from modelserver_runtime.gateway.traffic import Traffic
from modelserver_runtime.process.ending import Ending, Say
from modelserver_runtime.settings import Settings
from modelserver_runtime.storage import open_store
from modelserver_runtime.telemetry import Telemetry

log = logging.getLogger(__name__)


def run_gateway(settings: Settings, sockets: Sockets, listen: Listen, say: Say) -> None:
    """Returns when drained."""
    run_to_end(_Process(settings, listen, say).run(sockets))


class _Process:
    def __init__(self, settings: Settings, listen: Listen, say: Say) -> None:
        self._settings = settings
        self._say = say
        self._ending = Ending(settings, say)
        clock = time.monotonic  # noqa: TID251  the shell's clock
        self._telemetry = Telemetry()
        self._redis = open_store(settings, self._telemetry, clock)
        client = ApiClient(_account(settings))
        self._cluster = Cluster(client, HoldBounds())
        self._colleagues = Colleagues(client, settings.gateway_service)
        self._pods = Pods(clock, random.Random())  # noqa: S311  divides traffic
        self._holder = Holder(
            Waker(client), self._pods.probe, clock=clock, per_pod=settings.hold_release_per_pod
        )
        self._traffic = Traffic(clock)
        self._front = self._front_door(clock)
        self._ports = Ports(settings, listen, self._front.at_port)
        self._cluster.listeners += [self._pods.follow, self._holder.follow, self._ports.follow]
        self._cluster.listeners.append(self._traffic.follow)

    def _front_door(self, clock: Callable[[], float]) -> Front:
        guard = open_guard(
            self._settings,
            self._telemetry,
            self._redis,
            clock=clock,
            wall_clock=time.time,  # noqa: TID251  the shell's clock
            replicas=self._colleagues.count,
        )
        hall = Hall(
            door=Door(guard, self._settings),
            pods=self._pods,
            holder=self._holder,
            traffic=self._traffic,
            clock=clock,
            max_body_bytes=self._settings.max_body_bytes,
            body_seconds=self._settings.body_timeout_seconds,
            has_affinity=self._settings.prefix_affinity,
        )
        front = front_door(hall, Boundary(self._settings), lambda: self._cluster.directory)
        if self._settings.page:
            front.showing = Showing(self._page(guard), hall.door)
        return front

    def _page(self, guard: Guard) -> Page:
        wall_clock = time.time  # noqa: TID251  the shell's clock
        sources = Sources(
            directory=lambda: self._cluster.directory,
            problems=lambda: self._cluster.problems,
            stages=self._holder,
            traffic=self._traffic,
            wall_clock=wall_clock,
            replica=socket.gethostname(),
        )
        return Page(sources, KeyDesk(guard, wall_clock), needs_keys=self._settings.needs_keys)

    async def run(self, sockets: Sockets) -> None:
        self._ending.hear_signals()
        clients = client_listener(self._front, self._settings)
        doors = Doors(clients, self._administration(), sockets, self._say)
        following = asyncio.create_task(self._follow())
        following.add_done_callback(self._on_end_of_following)
        await self._ending.is_due.wait()
        await self._drain(doors)
        following.cancel()
        await doors.close()
        if self._redis is not None:
            await self._redis.close()

    async def _follow(self) -> None:
        """Never returns."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._cluster.run())
            if self._settings.gateway_service:
                group.create_task(self._colleagues.run())

    def _administration(self) -> Administration:
        registry = self._telemetry.registry
        registry.register(GatewayCollector(self._cluster, self._holder))
        registry.register(TrafficCollector(self._traffic))
        return Administration(self._readiness, registry)

    def _readiness(self) -> dict[str, Any]:
        return readiness(self._cluster, self._redis, is_draining=self._front.is_draining)

    def _on_end_of_following(self, task: "asyncio.Task[None]") -> None:
        """Never by itself; if it does, the kubelet starts a gateway that follows."""
        if not task.cancelled():
            log.error("The cluster is not followed any more", exc_info=task.exception())
            self._ending.is_due.set()

    async def _drain(self, doors: Doors) -> None:
        left = await doors.drain(self._ending, self._begin_drain)
        self._ports.end(left)
        ended = asyncio.gather(doors.serving, self._ports.ended())
        await until_refusal(ended, left)
        self._holder.refuse_all()
        await ended
        self._holder.close()
        self._pods.close()

    def _begin_drain(self) -> None:
        self._front.is_draining = True


def _account(settings: Settings) -> Account:
    return Account(
        url=settings.kubernetes_url,
        token_file=settings.kubernetes_token_file,
        ca_file=settings.kubernetes_ca_file,
    )
