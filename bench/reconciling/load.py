"""A bare client: makes ModelServers, writes what the operator would write, counts what is there."""

import asyncio
import json
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import aiohttp

from bench.reconciling.lab import CONCURRENCY, NAMESPACE, RUNTIME_IMAGE
from devcluster.api import Cluster
from modelserver_operator.apis.v1alpha1 import parse_model_server
from modelserver_operator.config import OperatorConfig
from modelserver_operator.plan.desired import desired_state
from modelserver_operator.plan.values import Observed
from modelserver_operator.resources.kinds import CHILD_KINDS, MODEL_SERVER

LOAD_NAMESPACE = "models"
PLACEHOLDER = "00000000-0000-0000-0000-000000000000"
LOOK_SECONDS = 0.1
LONGEST_SECONDS = 1800.0

type Manifest = dict[str, Any]

_CONFIG = OperatorConfig(runtime_image=RUNTIME_IMAGE, namespace=NAMESPACE)
_PATHS = {
    kind.kind: f"{kind.path}/namespaces/{LOAD_NAMESPACE}/{kind.plural}" for kind in CHILD_KINDS
}
_SERVERS = f"{MODEL_SERVER.path}/namespaces/{LOAD_NAMESPACE}/{MODEL_SERVER.plural}"
_APPLY = {"Content-Type": "application/apply-patch+yaml"}
_JSON = {"Content-Type": "application/json"}


def server_manifest(number: int) -> Manifest:
    """Its model is on a claim, so nothing has to be resolved, and two replicas have a budget."""
    return {
        "apiVersion": MODEL_SERVER.api_version,
        "kind": MODEL_SERVER.kind,
        "metadata": {"name": f"model-{number}", "namespace": LOAD_NAMESPACE},
        "spec": {"model": {"uri": "pvc://models/tiny"}, "replicas": 2},
    }


def children_of(server: Manifest) -> list[tuple[str, str]]:
    """Path and body of each child, as the operator's own planner makes them; the uid is open."""
    stored = server | {"metadata": server["metadata"] | {"uid": PLACEHOLDER, "generation": 1}}
    nothing = Observed(children={}, strangers={}, pods=(), progress={})
    plan = desired_state(parse_model_server(stored), nothing, _CONFIG, datetime.now(UTC))
    manifests = [write.manifest for write in plan.writes]
    return [
        (f"{_PATHS[one['kind']]}/{one['metadata']['name']}", json.dumps(one)) for one in manifests
    ]


class BareClient:
    """As fast as this API server answers: connections kept, bodies made beforehand."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def __aenter__(self) -> Self:
        tls = ssl.create_default_context(cafile=str(self._cluster.ca_file))
        self._session = aiohttp.ClientSession(
            self._cluster.url,
            headers={"Authorization": f"Bearer {self._cluster.admin_token}"},
            connector=aiohttp.TCPConnector(ssl=tls, limit=CONCURRENCY + 8),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def create_servers(self, numbers: range) -> None:
        await _concurrently(numbers, self._create)

    async def seconds_of_floor(self, numbers: range) -> float:
        """ModelServers and their children, each server's children in order."""
        rendered = {number: children_of(server_manifest(number)) for number in numbers}

        async def write(number: int) -> None:
            uid = (await self._create(number))["metadata"]["uid"]
            for path, body in rendered[number]:
                await self._apply(path, body.replace(PLACEHOLDER, uid))

        begun = time.perf_counter()
        await _concurrently(numbers, write)
        return time.perf_counter() - begun

    async def seconds_of_operator(self, numbers: range, expected: int) -> float:
        """The same, but somebody else makes the children: until there are so many of them."""
        begun = time.perf_counter()
        creating = asyncio.create_task(self.create_servers(numbers))
        while (found := await self.count_children()) < expected:
            if time.perf_counter() - begun > LONGEST_SECONDS:
                raise RuntimeError(f"{found} of {expected} children after {LONGEST_SECONDS:.0f} s")
            await asyncio.sleep(LOOK_SECONDS)
        seconds = time.perf_counter() - begun
        await creating
        return seconds

    async def count_children(self) -> int:
        """The API server counts: a list of one item says how many more there are."""
        return sum(await asyncio.gather(*map(self._count, _PATHS.values())))

    async def seconds_of_change(self, number: int, replicas: int) -> float:
        """From the request that scales a ModelServer until its Deployment says so."""
        deployments = await self._get(_PATHS["Deployment"], labelSelector=_label(number))
        path = f"{_PATHS['Deployment']}/{deployments['items'][0]['metadata']['name']}"
        begun = time.perf_counter()
        body = json.dumps({"spec": {"replicas": replicas}})
        patch = {"Content-Type": "application/merge-patch+json"}
        await self._send("PATCH", f"{_SERVERS}/model-{number}", data=body, headers=patch)
        while (await self._get(path))["spec"]["replicas"] != replicas:
            if time.perf_counter() - begun > LONGEST_SECONDS:
                raise RuntimeError(f"a change of model-{number} never reached its Deployment")
            await asyncio.sleep(0.01)
        return time.perf_counter() - begun

    async def _create(self, number: int) -> Manifest:
        body = json.dumps(server_manifest(number))
        return await self._send("POST", _SERVERS, data=body, headers=_JSON)

    async def _apply(self, path: str, body: str) -> None:
        params = {"fieldManager": "modelserver-operator", "force": "true"}
        await self._send("PATCH", path, data=body, params=params, headers=_APPLY)

    async def _count(self, path: str) -> int:
        found = await self._get(path, limit="1")
        return len(found["items"]) + int(found["metadata"].get("remainingItemCount", 0))

    async def _get(self, path: str, **params: str) -> Manifest:
        return await self._send("GET", path, params=params)

    async def _send(self, method: str, path: str, **options: Any) -> Manifest:
        async with self._session.request(method, path, **options) as answer:
            content = await answer.read()
            if answer.status >= 400:
                raise RuntimeError(f"{method} {path}: {answer.status} {content[:300]!r}")
            return dict(json.loads(content))


def _label(number: int) -> str:
    return f"modelserver.dev/server=model-{number}"


async def _concurrently(numbers: Iterable[int], work: Callable[[int], Awaitable[Any]]) -> None:
    """CONCURRENCY at a time, in order: as the operator's workers take keys from their queue."""
    waiting = iter(numbers)

    async def worker() -> None:
        for number in waiting:
            await work(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(worker())
