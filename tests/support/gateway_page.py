"""A gateway with a page before played models in every state, on the loop of a test."""

import contextlib
import math
import random
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from modelserver_runtime.access.opening import open_guard
from modelserver_runtime.gateway.cluster import Address, Directory, HoldBounds, ServedModel
from modelserver_runtime.gateway.cluster.reading import SERVER_LABEL, key_of, read_server
from modelserver_runtime.gateway.front.application import front_door
from modelserver_runtime.gateway.front.boundary import Boundary
from modelserver_runtime.gateway.front.door import Door
from modelserver_runtime.gateway.front.exchange import Hall
from modelserver_runtime.gateway.front.pods import Pods
from modelserver_runtime.gateway.front.showing import Showing
from modelserver_runtime.gateway.holder import Holder
from modelserver_runtime.gateway.page.desk import KeyDesk
from modelserver_runtime.gateway.page.page import Page, Sources
from modelserver_runtime.gateway.traffic import Traffic
from modelserver_runtime.settings import load_settings
from modelserver_runtime.telemetry import Telemetry
from support.web import serving

type Json = dict[str, Any]

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def ago(**lasting: float) -> str:
    return (NOW - timedelta(**lasting)).isoformat().replace("+00:00", "Z")


def condition(kind: str, status: str, reason: str, message: str, **lasting: float) -> Json:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": ago(**lasting or {"hours": 5}),
    }


def a_server(
    name: str, namespace: str = "models", *, spec: Json | None = None, **status: Any
) -> Json:
    metadata = {"namespace": namespace, "name": name, "creationTimestamp": ago(days=9)}
    return {"metadata": metadata, "spec": spec or {}, "status": status}


SERVING = [
    condition("Ready", "True", "Serving", "3 of 3 pods are ready."),
    condition("Serving", "True", "Serving", "The Service leads to 3 ready pods."),
    condition("Progressing", "False", "Complete", "Everything is as the spec asks."),
    condition("ModelResolved", "True", "Resolved", "It is known exactly which files are served."),
]

CANARY: Json = {
    "from": "a1b2c3d4",
    "to": "d4e5f6a7",
    "strategy": "Canary",
    "phase": "Analyzing",
    "startTime": ago(minutes=11),
    "stepIndex": 1,
    "weights": {"intended": 25, "confirmed": 25, "observedPercent": "24.8"},
    "spec": {"steps": [{"weightPercent": weight} for weight in (5, 25, 50, 100)]},
    "message": "the answers at 25 % are compared; 96 s more at least",
    "gates": [
        {
            "name": "errors",
            "outcome": "Passing",
            "message": "3 of 1204 requests failed against 11 of 3630 at the stable revision; "
            "2 times as often would have been seen",
        },
        {
            "name": "latency",
            "outcome": "Passing",
            "message": "41 of 1204 requests were slower than 2500 ms against 128 of 3630 at the "
            "stable revision",
        },
        {
            "name": "timeToFirstToken",
            "outcome": "Undecided",
            "message": "9 of 380 streams began later than 400 ms against 14 of 1190 at the stable "
            "revision; about 240 more decide",
        },
    ],
    "comparison": [
        {
            "revision": "a1b2c3d4",
            "requests": 3630,
            "errorsPercent": "0.30",
            "slowPercent": "3.53",
        },
        {
            "revision": "d4e5f6a7",
            "requests": 1204,
            "errorsPercent": "0.25",
            "slowPercent": "3.41",
        },
    ],
}

SCALING: Json = {
    "engine": "KEDA",
    "desired": 3,
    "reason": "inflight 22/8",
    "since": ago(minutes=26),
    "minReplicas": 1,
    "maxReplicas": 8,
    "coldStartSeconds": 24,
    "holderPort": 20000,
    "lastActiveAt": ago(seconds=1),
    "zero": {"phase": "Warm", "since": ago(hours=3)},
    "history": [
        {"at": ago(hours=3), "from": 0, "to": 1, "reason": "request"},
        {"at": ago(minutes=52), "from": 1, "to": 2, "reason": "inflight 13/8"},
        {"at": ago(minutes=26), "from": 2, "to": 3, "reason": "inflight 22/8"},
    ],
}


def played_servers() -> list[Json]:
    """One in every state."""
    return [
        a_server(
            "chat",
            spec={"model": {"servedName": "qwen2.5-7b-instruct", "task": "TextGeneration"}},
            servingRevision="a1b2c3d4",
            readyReplicas=3,
            rollout=CANARY,
            scaling=SCALING,
            conditions=SERVING,
        ),
        a_server(
            "embeddings",
            spec={"model": {"servedName": "bge-m3", "task": "Embeddings"}, "replicas": 2},
            servingRevision="77ab01fe",
            readyReplicas=2,
            conditions=SERVING,
        ),
        a_server(
            "llama",
            spec={"model": {"servedName": "llama-3.1-8b", "task": "TextGeneration"}},
            servingRevision="0c9d8e7f",
            artifact={"phase": "Fetching", "downloadPercent": 62, "etaSeconds": 41},
            conditions=[
                condition("Ready", "Unknown", "Fetching", "62 % of 16.1 GB are there.", minutes=2)
            ],
        ),
        a_server(
            "mistral",
            "research",
            spec={"model": {"servedName": "mistral-small", "task": "TextGeneration"}},
            servingRevision="5d6c7b8a",
            diagnosis={
                "code": "OutOfMemory",
                "message": "The container was killed because it needed more than its 16Gi of "
                "memory while the model was being loaded.",
                "hint": "Set resources.memory to 28Gi or more, or load the model in fewer bits.",
            },
            conditions=[
                condition("Ready", "False", "OutOfMemory", "No pod is ready.", minutes=7),
                condition("Serving", "False", "NoReadyReplica", "There are no pods.", minutes=7),
            ],
        ),
        a_server(
            "sentiment",
            "research",
            spec={"model": {"servedName": "sentiment", "task": "TextClassification"}},
            servingRevision="31415926",
            scaling={
                "engine": "Operator",
                "desired": 0,
                "reason": "idle",
                "since": ago(minutes=48),
                "maxReplicas": 2,
                "coldStartSeconds": 9,
                "holderPort": 20001,
                "zero": {"phase": "Cold", "since": ago(minutes=48)},
                "history": [{"at": ago(minutes=48), "from": 1, "to": 0, "reason": "idle"}],
            },
        ),
    ]


def a_slice(item: Json, address: Address | None, *, is_ready: bool = True) -> Json:
    name = item["metadata"]["name"]
    labels = {
        SERVER_LABEL: name,
        "kubernetes.io/service-name": name,
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    endpoints = []
    if address is not None:
        endpoints = [{"addresses": [address.host], "conditions": {"ready": is_ready}}]
    return {
        "metadata": {"name": name, "namespace": item["metadata"]["namespace"], "labels": labels},
        "ports": [{"name": "http", "port": address.port if address else 1}],
        "endpoints": endpoints,
    }


class Clock:
    """Goes on, unless it is stopped."""

    def __init__(self) -> None:
        self.stopped_at: float | None = None

    def __call__(self) -> float:
        return time.monotonic() if self.stopped_at is None else self.stopped_at


class PageWorld:
    """`woken` are the servers that were woken."""

    def __init__(self, **settings: Any) -> None:
        self.woken: list[str] = []
        self.problems: tuple[str, ...] = ()
        self.directory = Directory()
        self.settings = load_settings(**settings)
        self.clock = Clock()
        self.clock.stopped_at = time.monotonic() - 3600  # when the gateway began
        self.traffic = Traffic(self.clock)
        self.clock.stopped_at = None
        self.pods = Pods(time.monotonic, random.Random(1))
        self.holder = Holder(self, self.pods.probe, clock=time.monotonic, per_pod=32)
        self.guard = open_guard(
            self.settings, Telemetry(), None, clock=time.monotonic, wall_clock=NOW.timestamp
        )
        hall = Hall(
            door=Door(self.guard, self.settings),
            pods=self.pods,
            holder=self.holder,
            traffic=self.traffic,
            clock=self.clock,
            max_body_bytes=100_000,
            body_seconds=60.0,
        )
        self.front = front_door(hall, Boundary(self.settings), lambda: self.directory)
        self.front.showing = Showing(self.page(), hall.door)

    def page(self) -> Page:
        sources = Sources(
            directory=lambda: self.directory,
            problems=lambda: self.problems,
            stages=self.holder,
            traffic=self.traffic,
            wall_clock=NOW.timestamp,
            replica="modelserver-gateway-7c9f-x2x4d",
        )
        desk = KeyDesk(self.guard, NOW.timestamp)
        return Page(sources, desk, needs_keys=self.settings.needs_keys)

    async def wake(self, model: ServedModel) -> bool:
        self.woken.append(str(model.key))
        return True

    def follow(self, items: list[Json], pods: dict[str, tuple[Address, bool]]) -> None:
        """`pods` are the addresses by the server's name, and whether they are ready."""
        models = []
        for item in items:
            address, is_ready = pods.get(item["metadata"]["name"], (None, False))
            slices = [a_slice(item, address, is_ready=is_ready)]
            models.append(read_server(item, slices, HoldBounds()))
        self.directory = Directory.of(models)
        for listener in (self.pods.follow, self.holder.follow, self.traffic.follow):
            listener(self.directory)

    def play_traffic(self, item: Json, *, per_second: float, seconds: float) -> None:
        """Of the last two minutes, in waves."""
        chance, calls = random.Random(7), []
        began = self.clock() - 120
        for tick in range(240):
            wanted = per_second / 2 * (1 + 0.6 * math.sin(tick / 17)) * chance.uniform(0.6, 1.4)
            calls += [tick / 2] * int(wanted + chance.random())
        for at in calls:
            self.clock.stopped_at = began + at
            took = seconds * chance.lognormvariate(0, 0.6)
            kind = "5xx" if chance.random() < 0.004 else "2xx"
            self.traffic.begin(key_of(item))
            # Ends come in the order of the beginnings: what is drawn is the same.
            self.traffic.models[key_of(item)].note(kind, took, self.clock())
        self.clock.stopped_at = None


@contextlib.asynccontextmanager
async def page_world(**settings: Any) -> AsyncIterator[tuple[PageWorld, str]]:
    """With the address of its front."""
    world = PageWorld(**settings)
    async with serving(world.front) as url:
        yield world, url
        world.holder.close()
        world.pods.close()
