"""The gateway's front with its holder, before models that a test makes up."""

import contextlib
import random
import time

import httpx

from modelserver_runtime.access.opening import open_guard
from modelserver_runtime.gateway.cluster import Address, Directory, ServedModel, ServerKey
from modelserver_runtime.gateway.front.application import front_door
from modelserver_runtime.gateway.front.boundary import Boundary
from modelserver_runtime.gateway.front.door import Door
from modelserver_runtime.gateway.front.exchange import Hall
from modelserver_runtime.gateway.front.pods import Pods
from modelserver_runtime.gateway.holder import Holder
from modelserver_runtime.gateway.traffic import Traffic
from modelserver_runtime.settings import load_settings
from modelserver_runtime.telemetry import Telemetry
from support.web import serving

CHAT = "/v1/chat/completions"


def address(url):
    host, _, port = url.removeprefix("http://").rpartition(":")
    return Address(host, int(port))


def model(name="chat", namespace="models", **more):
    key = ServerKey(namespace, name)
    return ServedModel(**{"key": key, "names": (name,), "revision": "abc", **more})


def asleep(**more):
    return model(**{"holder_port": 20000, "phase": "Cold", **more})


class World:
    """A gateway in this process, and who is woken by it; `client` asks it over HTTP."""

    def __init__(self, **settings):
        self.woken: list[ServerKey] = []
        self.replicas = 1
        self.directory = Directory()
        settings = load_settings(**{"max_body_bytes": 100_000, **settings})
        self.pods = Pods(time.monotonic, random.Random(1))
        self.holder = Holder(self, self.pods.probe, clock=time.monotonic, per_pod=32)
        self.traffic = Traffic(time.monotonic)
        guard = open_guard(
            settings,
            Telemetry(),
            None,
            clock=time.monotonic,
            wall_clock=time.time,
            replicas=lambda: self.replicas,
        )
        hall = Hall(
            door=Door(guard, settings),
            pods=self.pods,
            holder=self.holder,
            traffic=self.traffic,
            clock=time.monotonic,
            max_body_bytes=settings.max_body_bytes,
            body_seconds=settings.body_timeout_seconds,
            has_affinity=settings.prefix_affinity,
        )
        self.front = front_door(hall, Boundary(settings), lambda: self.directory)
        self.client = None

    async def wake(self, woken):
        self.woken.append(woken.key)
        return True

    def follow(self, *models):
        self.directory = Directory.of(models)
        self.pods.follow(self.directory)
        self.holder.follow(self.directory)


@contextlib.asynccontextmanager
async def made(**settings):
    world = World(**settings)
    async with (
        serving(world.front) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        world.client = client
        yield world
        world.holder.close()
        world.pods.close()
