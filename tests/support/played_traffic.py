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
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from aiohttp import web

from support import pod_outcomes
from support.pod_outcomes import Outcome, Pod, Status

ROUTER_PORT, MODEL_PORT = 9090, 8080
PROXY_PATH = "/stats/prometheus"
SERVER_LABEL = "modelserver.dev/server"
ROLE_LABEL, REVISION_LABEL = "modelserver.dev/role", "modelserver.dev/revision"
CASES = 10  # of a golden set
EDGES_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
QUICK, SLOW = 0, 4  # buckets: within 0.1 s, and within 2 s
GAPS = 9  # between the ten tokens of an answer
FIRST_NETWORK, NETWORKS = 78, 170  # 127.77 is where starting pods are asked

type Fetch = Callable[[str], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """Of a revision, in percent of its requests, or of its compared copies."""

    error_percent: float = 0.0
    slow_percent: float = 0.0
    slow_first_percent: float = 0.0  # of streams: every request is one
    slow_gap_percent: float = 0.0  # of the times between two tokens
    disagree_percent: float = 0.0


@dataclass(slots=True)
class Counted:
    requests: float = 0.0
    errors: float = 0.0
    slow: float = 0.0
    slow_first: float = 0.0
    slow_gaps: float = 0.0

    def add(self, requests: float, behaviour: Behaviour) -> None:
        self.requests += requests
        self.errors += requests * behaviour.error_percent / 100
        self.slow += requests * behaviour.slow_percent / 100
        self.slow_first += requests * behaviour.slow_first_percent / 100
        self.slow_gaps += requests * GAPS * behaviour.slow_gap_percent / 100

    def as_json(self) -> dict[str, Any]:
        requests = int(self.requests)
        return {
            "requests": requests,
            "errors": int(self.errors),
            "noAnswer": 0,
            "inFlight": 0,
            "latency": _buckets(requests, int(self.slow)),
            "firstToken": _buckets(requests, int(self.slow_first)),
            "tokenGaps": _buckets(requests * GAPS, int(self.slow_gaps)),
        }


def _buckets(number: int, slow: int) -> list[int]:
    buckets = [0] * (len(EDGES_SECONDS) + 1)
    buckets[QUICK], buckets[SLOW] = number - slow, slow
    return buckets


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
    a server's golden set are not answered as expected. `shares` are the weights that somebody else
    than the built-in router has put in force for a server, by revision. Pods of `unscraped` servers
    have no metrics to show. `in_flight` is how many requests a server answers at a time, divided
    over its pods.
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
        self.living: Callable[[Pod], int] = lambda _pod: 1  # pods beside this one, and itself

    def calm(self) -> None:
        """As it is without directions."""
        self.requests = 400.0
        self.behaviours: dict[str, Behaviour] = {}
        self.silent: set[str] = set()
        self.deaf: set[str] = set()
        self.idle: set[str] = set()
        self.preflight_failures: dict[str, int] = {}
        self.shares: dict[str, Mapping[str, int]] = {}
        self.unscraped: set[str] = set()
        self.in_flight: dict[str, float] = {}
        self.questions: Counter[str] = Counter()  # that were asked of the pods of a server

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
        self.questions[self._server_of(played)] += 1
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
        if played is None or self._server_of(played) in self.unscraped:
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE)
        revision = played.pod["metadata"]["labels"].get(REVISION_LABEL, "")
        counted = played.counted[revision]
        if (server := self._server_of(played)) not in self.idle:
            share = self.shares[server].get(revision, 0) if server in self.shares else 100
            behaviour = self.behaviours.get(revision, Behaviour())
            counted.add(self.requests * share / 100, behaviour)
        if request.path == PROXY_PATH:
            return web.Response(text=_metrics_of_proxy(counted, played.pod))
        in_flight = self.in_flight.get(server, 0.0) / max(1, self.living(played.pod))
        gauge = f"modelserver_inflight_requests {in_flight}\n"
        return web.Response(text=gauge + _metrics(counted, played.began))


def _is_router(pod: Pod) -> bool:
    return pod["metadata"]["labels"].get(ROLE_LABEL) == "router"


def _metrics(counted: Counted, began: datetime) -> str:
    good, told = int(counted.requests) - int(counted.errors), counted.as_json()
    lines = [
        f"process_start_time_seconds {began.timestamp()}",
        f'modelserver_requests_total{{route="/v1/completions",code="200"}} {good}',
        f'modelserver_requests_total{{route="/v1/completions",code="500"}} {int(counted.errors)}',
        *_histogram("modelserver_request_duration_seconds", told["latency"]),
        *_histogram("modelserver_time_to_first_token_seconds", told["firstToken"]),
        *_histogram("modelserver_inter_token_seconds", told["tokenGaps"]),
    ]
    return "\n".join(lines) + "\n"


def _metrics_of_proxy(counted: Counted, pod: Pod) -> str:
    """As Istio's proxy beside the model counts, in milliseconds."""
    metadata, told = pod["metadata"], counted.as_json()
    workload = f"{metadata['labels'][SERVER_LABEL]}-{metadata['labels'][REVISION_LABEL]}"
    labels = (
        f'reporter="destination",destination_workload="{workload}"'
        f',destination_workload_namespace="{metadata["namespace"]}"'
    )
    errors = int(counted.errors)
    edges = (*(f"{edge * 1000:g}" for edge in EDGES_SECONDS), "+Inf")
    within = zip(edges, itertools.accumulate(told["latency"]), strict=True)
    lines = [
        f'istio_requests_total{{{labels},response_code="200"}} {int(counted.requests) - errors}',
        f'istio_requests_total{{{labels},response_code="503"}} {errors}',
        *(
            f'istio_request_duration_milliseconds_bucket{{{labels},le="{edge}"}} {number}'
            for edge, number in within
        ),
    ]
    return "\n".join(lines) + "\n"


def _histogram(name: str, buckets: list[int]) -> Iterator[str]:
    edges = (*map(str, EDGES_SECONDS), "+Inf")
    for edge, within in zip(edges, itertools.accumulate(buckets), strict=True):
        yield f'{name}_bucket{{le="{edge}"}} {within}'
