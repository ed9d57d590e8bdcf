"""The gateway's process: follows the cluster, listens, drains, ends.

SIGTERM: not ready ─▶ new requests still answered, connections closed after each (lame duck)
         ─▶ no new connections, requests under way finish (drain) ─▶ end
a second signal: end at once
"""

import asyncio
import logging
import os
import random
import signal
import socket
import time
from collections.abc import Callable

import uvloop

from modelserver_runtime.access.opening import open_guard
from modelserver_runtime.gateway.cluster import HoldBounds
from modelserver_runtime.gateway.cluster.client import Account, ApiClient
from modelserver_runtime.gateway.cluster.following import Cluster
from modelserver_runtime.gateway.cluster.waking import Waker
from modelserver_runtime.gateway.front.administration import Administration, GatewayCollector
from modelserver_runtime.gateway.front.application import Front, front_door
from modelserver_runtime.gateway.front.boundary import Boundary
from modelserver_runtime.gateway.front.door import Door
from modelserver_runtime.gateway.front.exchange import Hall
from modelserver_runtime.gateway.front.listener import Listen, Ports, client_listener
from modelserver_runtime.gateway.front.pods import Pods
from modelserver_runtime.gateway.front.traffic_metrics import TrafficCollector
from modelserver_runtime.gateway.holder import Holder
from modelserver_runtime.gateway.traffic import Traffic
from modelserver_runtime.process.listener import Listener
from modelserver_runtime.settings import Settings
from modelserver_runtime.storage import open_store
from modelserver_runtime.telemetry import Telemetry

log = logging.getLogger(__name__)

_SIGNAL_EXIT_BASE = 128
_ADMIN_DRAIN_SECONDS = 1.0
_REFUSAL_SECONDS = 1.0

type Say = Callable[[str], None]
type Sockets = tuple[socket.socket, socket.socket]


def run_gateway(settings: Settings, sockets: Sockets, listen: Listen, say: Say) -> None:
    """`sockets` are the clients' and the one for administration. Returns when drained."""
    # A cut answer and a client's bad request are told in our own log, or in none.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_Process(settings, listen, say).run(*sockets))


class _Process:
    def __init__(self, settings: Settings, listen: Listen, say: Say) -> None:
        self._settings = settings
        self._say = say
        self._stop = asyncio.Event()
        self._signal: signal.Signals | None = None
        clock = time.monotonic  # noqa: TID251  the shell's clock
        self._telemetry = Telemetry()
        self._redis = open_store(settings, self._telemetry, clock)
        client = ApiClient(_account(settings))
        self._cluster = Cluster(client, HoldBounds())
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
        return front_door(hall, Boundary(self._settings), lambda: self._cluster.directory)

    async def run(self, listening: socket.socket, admin_listening: socket.socket) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number)
        clients = client_listener(self._front, self._settings)
        admin = Listener(self._administration(), ws="none", date_header=False)
        following = asyncio.create_task(self._cluster.run())
        following.add_done_callback(self._on_end_of_following)
        serving = asyncio.ensure_future(clients.serve(sockets=[listening]))
        administering = asyncio.ensure_future(admin.serve(sockets=[admin_listening]))
        self._say(f"Listening on {_url(listening)}; administration on {_url(admin_listening)}")
        await self._stop.wait()
        await self._drain(clients, serving)
        following.cancel()
        admin.end(_ADMIN_DRAIN_SECONDS)
        await asyncio.gather(serving, administering)
        if self._redis is not None:
            await self._redis.close()

    def _administration(self) -> Administration:
        registry = self._telemetry.registry
        registry.register(GatewayCollector(self._cluster, self._holder))
        registry.register(TrafficCollector(self._traffic))
        return Administration(self._cluster, registry, lambda: self._front.is_draining)

    def _on_end_of_following(self, task: "asyncio.Task[None]") -> None:
        """Never by itself; if it does, the kubelet starts a gateway that follows."""
        if not task.cancelled():
            log.error("The cluster is not followed any more", exc_info=task.exception())
            self._stop.set()

    def _on_signal(self, number: signal.Signals) -> None:
        if self._signal is not None:
            log.warning("A second signal: ending at once")
            os._exit(_SIGNAL_EXIT_BASE + number)
        self._signal = number
        self._stop.set()

    async def _drain(self, clients: Listener, serving: "asyncio.Future[None]") -> None:
        self._front.is_draining = True
        total = self._settings.drain_seconds
        # The requests that run when the listener closes keep half of the time at least.
        is_interactive = self._signal is signal.SIGINT
        lame_duck = 0.0 if is_interactive else min(self._settings.lame_duck_seconds, total / 2)
        self._say(f"Draining for at most {total:.0f} s; a second signal ends at once")
        await asyncio.wait({serving}, timeout=lame_duck)
        clients.end(total - lame_duck)
        self._ports.end(total - lame_duck)
        ending = asyncio.gather(serving, self._ports.ended())
        # Who still waits for a model has the rest of the time, but for that of its refusal.
        await asyncio.wait({ending}, timeout=max(0.0, total - lame_duck - _REFUSAL_SECONDS))
        self._holder.refuse_all()
        await ending
        self._holder.close()
        self._pods.close()


def _account(settings: Settings) -> Account:
    return Account(
        url=settings.kubernetes_url,
        token_file=settings.kubernetes_token_file,
        ca_file=settings.kubernetes_ca_file,
    )


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
