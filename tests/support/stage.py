"""Plays the scheduler and the kubelet on a cluster without a node, so that pods have a life.

The real controllers of Kubernetes make the pods of Deployments and Jobs; the stage binds them to a
node that exists only as an object and reports the status that the test has directed:

    stage.direct(pod_outcomes.out_of_memory(), server="chat")     from now on, for pods there too
    stage.direct(pod_outcomes.FINE, server="chat")                and now it works again
    with stage.intermission(): ...                                nobody schedules, nobody reports
    stage.progress = {"phase": "Fetching", "percent": 40, ...}    what GET /startupz of pods answers
    stage.direct(stage.traffic.outcome, server="chat")            pods that say what they counted
"""

import asyncio
import json
import os
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Self

import aiohttp
from aiohttp import web

from devcluster.api import Cluster
from support import pod_outcomes
from support.played_traffic import Traffic
from support.pod_outcomes import Outcome, Pod

NODE = "stage"
SERVER_LABEL = "modelserver.dev/server"
PROGRESS_PORT = 8080
_HEARTBEAT_SECONDS = 10
_MERGE = {"Content-Type": "application/merge-patch+json"}
_APPLY = {"Content-Type": "application/apply-patch+yaml"}
_FORCED = {"fieldManager": "stage", "force": "true"}
_PASSED_BY = {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.FORBIDDEN}


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """Empty means any."""

    outcome: Outcome
    server: str
    namespace: str
    revision: str

    def concerns(self, pod: Pod) -> bool:
        labels = pod["metadata"].get("labels", {})
        return (
            self.server in {"", labels.get(SERVER_LABEL)}
            and self.namespace in {"", pod["metadata"]["namespace"]}
            and self.revision in {"", labels.get("modelserver.dev/revision")}
        )


class Stage:
    """Runs in a thread of its own, as the cluster's administrator."""

    def __init__(self, cluster: Cluster) -> None:
        high, low = divmod(os.getpid() % 65536, 256)
        self.progress_address = f"127.77.{high}.{low}"  # two test runs do not answer each other
        self.traffic = Traffic(high, low)
        self.progress: dict[str, Any] = {"phase": "Fetching", "percent": 0, "message": ""}
        self._url = cluster.url
        self._headers = {"Authorization": f"Bearer {cluster.admin_token}"}
        self._tls = ssl.create_default_context(cafile=str(cluster.ca_file))
        self._directions: list[Direction] = []
        self._pods: dict[str, Pod] = {}
        self._reported: dict[str, Outcome] = {}
        self._busy: set[str] = set()
        self._again: set[str] = set()
        self._intermission = False
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stage", daemon=True)

    # -- what the test calls ---------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(30), "the stage did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the stage did not stop"

    def direct(
        self, outcome: Outcome, *, server: str = "", namespace: str = "", revision: str = ""
    ) -> None:
        """The latest direction that concerns a pod decides."""
        self._directions.append(
            Direction(outcome=outcome, server=server, namespace=namespace, revision=revision)
        )
        self._loop.call_soon_threadsafe(self._attend_all)

    def clear(self) -> None:
        self._directions.clear()
        self.traffic.calm()
        self._loop.call_soon_threadsafe(self._attend_all)

    @contextmanager
    def intermission(self) -> Iterator[None]:
        self._intermission = True
        try:
            yield
        finally:
            self._intermission = False
            self._loop.call_soon_threadsafe(self._attend_all)

    # -- the play ------------------------------------------------------------------------------

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._perform())

    def _stop(self) -> None:
        self._stopped.set_result(None)

    async def _perform(self) -> None:
        self._stopped = self._loop.create_future()
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=64)
        async with aiohttp.ClientSession(
            self._url, connector=connector, headers=self._headers, read_bufsize=2**20
        ) as self._session:
            answering = await self._answer_progress()
            self.traffic.fetch = lambda path: self._send("GET", path, None)
            self.traffic.living = self._living
            await self._make_node()
            async with asyncio.TaskGroup() as self._tasks:
                loops = [
                    self._tasks.create_task(self._beat()),
                    self._tasks.create_task(self._follow()),
                ]
                await self._stopped
                for loop in loops:
                    loop.cancel()
            await answering.cleanup()
            await self.traffic.close()
        await asyncio.sleep(0.05)  # connections close in later turns of the loop

    def _living(self, pod: Pod) -> int:
        """Pods of the same server that serve."""
        server, namespace = pod["metadata"]["labels"][SERVER_LABEL], pod["metadata"]["namespace"]
        return sum(
            one["metadata"]["namespace"] == namespace
            and one["metadata"].get("labels", {}).get(SERVER_LABEL) == server
            and "modelserver.dev/revision" in one["metadata"]["labels"]
            and "deletionTimestamp" not in one["metadata"]
            for one in list(self._pods.values())
        )

    async def _answer_progress(self) -> web.ServerRunner:
        async def answer(_request: web.BaseRequest) -> web.Response:
            return web.json_response(self.progress, status=503)

        runner = web.ServerRunner(web.Server(answer))
        await runner.setup()
        await web.TCPSite(runner, self.progress_address, PROGRESS_PORT).start()
        return runner

    async def _make_node(self) -> None:
        capacity = {"cpu": "10000", "memory": "10000Gi", "pods": "10000"}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
        condition = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}
        status = {
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": [condition | {"lastTransitionTime": pod_outcomes.NOW}],
        }
        path = f"/api/v1/nodes/{NODE}"
        await self._send("PATCH", path, node, headers=_APPLY, params=_FORCED)
        await self._send("PATCH", f"{path}/status", {"status": status}, headers=_MERGE)

    async def _beat(self) -> None:
        """A node without a heart-beat is unreachable after 50 s, and its pods are not ready."""
        path = f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{NODE}"
        while True:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            lease = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": NODE},
                "spec": {"holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": now},
            }
            await self._send("PATCH", path, lease, headers=_APPLY, params=_FORCED)
            await asyncio.sleep(_HEARTBEAT_SECONDS)

    async def _follow(self) -> None:
        while True:
            listed = await self._send("GET", "/api/v1/pods", None)
            self._pods = {pod["metadata"]["uid"]: pod for pod in listed["items"]}
            self._attend_all()
            self._ready.set()
            await self._watch(listed["metadata"]["resourceVersion"])

    async def _watch(self, version: str) -> None:
        query = {"watch": "true", "resourceVersion": version}
        async with self._session.get("/api/v1/pods", params=query, timeout=_ENDLESS) as answer:
            async for line in answer.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                self._see(event["type"], event["object"])

    def _see(self, kind: str, pod: Pod) -> None:
        uid = pod["metadata"]["uid"]
        if kind == "DELETED":
            self._pods.pop(uid, None)
            self._reported.pop(uid, None)
            return
        self._pods[uid] = pod
        self._attend(uid)

    def _attend_all(self) -> None:
        for uid in list(self._pods):
            self._attend(uid)

    def _attend(self, uid: str) -> None:
        """One task a pod; what happens meanwhile is looked at afterwards."""
        if self._intermission:
            return
        if uid in self._busy:
            self._again.add(uid)
            return
        self._busy.add(uid)
        self._tasks.create_task(self._play(uid))

    async def _play(self, uid: str) -> None:
        try:
            if (pod := self._pods.get(uid)) is not None:
                await self._move(uid, pod)
        finally:
            self._busy.discard(uid)
        if uid in self._again:
            self._again.discard(uid)
            self._attend(uid)

    async def _move(self, uid: str, pod: Pod) -> None:
        path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
        if "deletionTimestamp" in pod["metadata"]:
            options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
            await self._send("DELETE", path, options)
            return
        outcome = self._outcome_of(pod)
        is_over = pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}
        if is_over or self._reported.get(uid) is outcome:
            return
        if outcome.is_bound and not pod["spec"].get("nodeName"):
            await self._bind(path, pod["metadata"]["name"])
        self._reported[uid] = outcome
        patch = _status_patch(pod, outcome)
        await self.traffic.open(pod)
        await self._send("PATCH", f"{path}/status", patch, headers=_MERGE)

    async def _bind(self, path: str, name: str) -> None:
        target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}}
        await self._send("POST", f"{path}/binding", binding | {"target": target})

    def _outcome_of(self, pod: Pod) -> Outcome:
        for direction in reversed(self._directions):
            if direction.concerns(pod):
                return direction.outcome
        return pod_outcomes.FINE

    async def _send(self, method: str, path: str, body: Any, **options: Any) -> dict[str, Any]:
        async with self._session.request(method, path, json=body, **options) as answer:
            content = await answer.read()
            if answer.status >= HTTPStatus.BAD_REQUEST and answer.status not in _PASSED_BY:
                raise AssertionError(f"stage: {method} {path}: {answer.status} {content[:500]!r}")
            return json.loads(content)


_ENDLESS = aiohttp.ClientTimeout(total=None)


def _status_patch(pod: Pod, outcome: Outcome) -> dict[str, Any]:
    """With the uid, so that a later pod of that name does not inherit it."""
    metadata = {"uid": pod["metadata"]["uid"]}
    return {"metadata": metadata, "status": outcome.status_of(pod)}
