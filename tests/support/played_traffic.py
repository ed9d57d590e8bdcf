"""Plays the requests of clients on a cluster without a node: what routers and models have counted.

Pods that are directed to `Traffic.outcome` have addresses of this machine, at which the traffic
answers for them, as the built-in router does on port 9090 and a model's pod on 8080. Nobody sends
anything: whoever asks a router is told of `requests` more than the last time, divided by the route
that the router has, and as good or bad as `Behaviour` says.

    stage.direct(stage.traffic.outcome, server="chat")
    stage.traffic.behaviours[revision] = Behaviour(error_percent=10)
"""

import itertools
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from aiohttp import web

from support import pod_outcomes
from support.pod_outcomes import Outcome, Pod, Status

ROUTER_PORT, MODEL_PORT = 9090, 8080
SERVER_LABEL = "modelserver.dev/server"
ROLE_LABEL, REVISION_LABEL = "modelserver.dev/role", "modelserver.dev/revision"
CASES = 10  # of a golden set
EDGES_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
QUICK, SLOW = 0, 4  # buckets: within 0.1 s, and within 2 s
FIRST_NETWORK, NETWORKS = 78, 170  # 127.77 is where starting pods are asked

type Fetch = Callable[[str], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """Of a revision, in percent of its requests, or of its compared copies."""

    error_percent: float = 0.0
    slow_percent: float = 0.0
    disagree_percent: float = 0.0


@dataclass(slots=True)
class Counted:
    requests: float = 0.0
    errors: float = 0.0
    slow: float = 0.0

    def add(self, requests: float, behaviour: Behaviour) -> None:
        self.requests += requests
        self.errors += requests * behaviour.error_percent / 100
        self.slow += requests * behaviour.slow_percent / 100

    def as_json(self) -> dict[str, Any]:
        requests, slow = int(self.requests), int(self.slow)
        latency = [0] * (len(EDGES_SECONDS) + 1)
        latency[QUICK], latency[SLOW] = requests - slow, slow
        none = [0] * (len(EDGES_SECONDS) + 1)
        return {
            "requests": requests,
            "errors": int(self.errors),
            "noAnswer": 0,
            "inFlight": 0,
            "latency": latency,
            "firstToken": none,
            "tokenGaps": none,
        }


@dataclass(slots=True)
class PlayedPod:
    """A pod's process: what it has counted is lost with it."""

    pod: Pod
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    counted: dict[str, Counted] = field(default_factory=lambda: defaultdict(Counted))
    tried: dict[str, Counted] = field(default_factory=lambda: defaultdict(Counted))
    copies: list[float] = field(default_factory=lambda: [0.0] * 4)
    route: dict[str, Any] = field(default_factory=dict)


class Traffic:
    """`requests` come to a router between two looks at it, and as many for each experiment.

    `silent` are servers whose pods answer nobody; the routers of `deaf` ones keep the route that
    they have; nobody asks anything of `idle` ones. `preflight_failures` is how many of ten cases of
    a server's golden set are not answered as expected.
    """

    def __init__(self, high: int, low: int) -> None:
        self.calm()
        self.outcome = Outcome(name="answering", status_of=self._status_of)
        self._place = f"{high}.{low}"
        self._networks = itertools.cycle(range(FIRST_NETWORK, FIRST_NETWORK + NETWORKS))
        self._addresses: dict[str, str] = {}
        self._pods: dict[str, PlayedPod] = {}
        self._runners: dict[int, web.ServerRunner] = {}
        self._open: set[str] = set()
        self.fetch: Fetch | None = None

    def calm(self) -> None:
        """As it is without directions."""
        self.requests = 400.0
        self.behaviours: dict[str, Behaviour] = {}
        self.silent: set[str] = set()
        self.deaf: set[str] = set()
        self.idle: set[str] = set()
        self.preflight_failures: dict[str, int] = {}

    def answered(self, namespace: str, server: str, revision: str) -> int:
        """Requests that the routers of a server have counted of a revision, those gone too."""
        of_server = [
            played.counted[revision].requests
            for played in list(self._pods.values())
            if played.pod["metadata"]["namespace"] == namespace
            and self._server_of(played) == server
            and _is_router(played.pod)
        ]
        return int(sum(of_server))

    # -- addresses -----------------------------------------------------------------------------

    def _status_of(self, pod: Pod) -> Status:
        """As a pod that is fine, at an address where it is answered for."""
        if pod["metadata"].get("labels", {}).get(ROLE_LABEL) == "preflight":
            return self._examined(pod)
        address = self._address_of(pod)
        there = {"podIP": address, "podIPs": [{"ip": address}]}
        return pod_outcomes.FINE.status_of(pod) | there

    def _examined(self, pod: Pod) -> Status:
        """A golden set has been asked."""
        failed = self.preflight_failures.get(pod["metadata"]["labels"][SERVER_LABEL], 0)
        failures = [{"name": "capital", "message": "expected Paris, got Rome"}] * min(failed, 1)
        said = {"passed": CASES - failed, "failed": failed, "failures": failures}
        status = pod_outcomes.FINE.status_of(pod)
        status["containerStatuses"][0]["state"]["terminated"]["message"] = json.dumps(said)
        return status

    def _address_of(self, pod: Pod) -> str:
        uid = pod["metadata"]["uid"]
        if uid not in self._addresses:
            self._addresses[uid] = f"127.{next(self._networks)}.{self._place}"
            self._pods[self._addresses[uid]] = PlayedPod(pod)
        return self._addresses[uid]

    async def open(self, pod: Pod) -> None:
        """Listens where the pod is said to be; does nothing for pods that are elsewhere."""
        address = self._addresses.get(pod["metadata"]["uid"])
        if address is None or address in self._open:
            return
        self._open.add(address)
        for port, answer in ((ROUTER_PORT, self._router), (MODEL_PORT, self._model)):
            if port not in self._runners:
                self._runners[port] = web.ServerRunner(web.Server(answer))
                await self._runners[port].setup()
            await web.TCPSite(self._runners[port], address, port).start()

    async def close(self) -> None:
        for runner in self._runners.values():
            await runner.cleanup()

    # -- answers -------------------------------------------------------------------------------

    def _asked(self, request: web.BaseRequest) -> PlayedPod | None:
        assert request.transport is not None
        address = request.transport.get_extra_info("sockname")[0]
        played = self._pods[address]
        return None if self._server_of(played) in self.silent else played

    @staticmethod
    def _server_of(played: PlayedPod) -> str:
        return str(played.pod["metadata"]["labels"][SERVER_LABEL])

    async def _router(self, request: web.BaseRequest) -> web.Response:
        played = self._asked(request)
        if played is None or not _is_router(played.pod):
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE)
        await self._renew_route(played)
        if self._server_of(played) not in self.idle:
            self._serve(played)
        return web.json_response(self._status(played))

    async def _renew_route(self, played: PlayedPod) -> None:
        """As the kubelet does, which brings the ConfigMap into the pod."""
        server, fetch = self._server_of(played), self.fetch
        assert fetch is not None, "the stage has not begun"
        if server in self.deaf and played.route:
            return
        namespace = played.pod["metadata"]["namespace"]
        path = f"/api/v1/namespaces/{namespace}/configmaps/{server}-router"
        config = await fetch(path)
        played.route = json.loads(config["data"]["route.json"])

    def _serve(self, played: PlayedPod) -> None:
        for revision, weight in played.route["weights"].items():
            behaviour = self.behaviours.get(revision, Behaviour())
            played.counted[revision].add(self.requests * weight / 100, behaviour)
        for experiment in played.route.get("experiments", []):
            behaviour = self.behaviours.get(experiment["revision"], Behaviour())
            played.tried[experiment["name"]].add(self.requests, behaviour)
        if mirror := played.route.get("mirror"):
            copies = self.requests * mirror["percent"] / 100
            behaviour = self.behaviours.get(mirror["revision"], Behaviour())
            repeated = copies * mirror["baselinePercent"] / 100
            for index, more in enumerate((copies, copies * behaviour.disagree_percent / 100)):
                played.copies[index] += more
            played.copies[2] += repeated

    def _status(self, played: PlayedPod) -> dict[str, Any]:
        names = ("pairs", "disagreed", "baselinePairs", "baselineDisagreed")
        copies = {name: int(number) for name, number in zip(names, played.copies, strict=True)}
        return {
            "version": played.route["version"],
            "startedAt": played.began.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "routeProblem": "",
            "edgesSeconds": EDGES_SECONDS,
            "revisions": {name: one.as_json() for name, one in played.counted.items()},
            "experiments": {name: one.as_json() for name, one in played.tried.items()},
            "shadow": copies,
        }

    async def _model(self, request: web.BaseRequest) -> web.Response:
        played = self._asked(request)
        if played is None:
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE)
        revision = played.pod["metadata"]["labels"].get(REVISION_LABEL, "")
        counted = played.counted[revision]
        if self._server_of(played) not in self.idle:
            counted.add(self.requests, self.behaviours.get(revision, Behaviour()))
        return web.Response(text=_metrics(counted, played.began))


def _is_router(pod: Pod) -> bool:
    return pod["metadata"]["labels"].get(ROLE_LABEL) == "router"


def _metrics(counted: Counted, began: datetime) -> str:
    good = int(counted.requests) - int(counted.errors)
    within = itertools.accumulate(counted.as_json()["latency"])
    edges = (*map(str, EDGES_SECONDS), "+Inf")
    lines = [
        f"process_start_time_seconds {began.timestamp()}",
        f'modelserver_requests_total{{route="/v1/completions",code="200"}} {good}',
        f'modelserver_requests_total{{route="/v1/completions",code="500"}} {int(counted.errors)}',
        *(
            f'modelserver_request_duration_seconds_bucket{{le="{edge}"}} {number}'
            for edge, number in zip(edges, within, strict=True)
        ),
    ]
    return "\n".join(lines) + "\n"
