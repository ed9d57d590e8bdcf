"""`python -m bench.coldstart`: from a request for a model that sleeps to its first token.

The quickstart model, on a real Kubernetes with a node, with the operator and two gateways. The
server sleeps after ten seconds without a request; then a stream is asked for at its Service, and
what happens until the first token is divided by what was seen of the pod. Medians of the rounds.
The cluster is the one of the tests, where one is up.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

import httpx
import yaml

from bench.command_line import count
from bench.results_file import REPOSITORY, Result, versions
from devcluster.catalog import KUBERNETES
from devcluster.demo import install, model

sys.path.append(str(REPOSITORY / "tests"))

from e2e.rollout_play import Seen, Watch, watching
from e2e.stage import Servers, borrowed_cluster, fresh_namespace
from support.waiting import wait_until

CLUSTER = "coldstart"
NAMESPACE = "modelserver-bench"
NAME = "quickstart"
SLEEPY = {"minReplicas": 0, "maxReplicas": 1, "zero": {"idleSeconds": 10}}
# Each part ends with what is named here, in this order.
PARTS = ("wake_up", "schedule", "pod_start", "load", "warm_up", "first_token")
_PATIENCE = 300.0
_LOOK_SECONDS = 0.05
_BODY = {
    "model": NAME,
    "messages": [{"role": "user", "content": "What is ModelServer?"}],
    "max_tokens": 8,
    "stream": True,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.coldstart",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=count, default=5, help="cold starts (5)")
    what = "what explains the figures, for the result file"
    parser.add_argument("--note", default="", help=what)
    arguments = parser.parse_args()
    rounds = []
    with staged() as servers, watching(servers.kubectl, NAMESPACE, "pods") as pods:
        for number in range(1, arguments.rounds + 1):
            found = cold_start(servers, pods)
            print(f"{number:3} {json.dumps(found)}", flush=True)
            rounds.append({"round": number} | found)
    print(_result(arguments, rounds).write())
    return 0


@contextmanager
def staged() -> Iterator[Servers]:
    """The server is ready. In a cluster that stays up, so does the trained model."""
    with borrowed_cluster(CLUSTER) as cluster:
        kubectl = cluster.up()
        images = cluster.images()
        install.install(kubectl, operator_image=images.operator, runtime_image=images.runtime)
        install.install_gateway(kubectl, image=images.runtime)
        if not model.is_trained(kubectl, NAMESPACE):
            fresh_namespace(kubectl, NAMESPACE)
        model.train_in_cluster(kubectl, NAMESPACE, images.runtime)
        servers = Servers(kubectl, NAMESPACE)
        spec = yaml.safe_load(model.example("quickstart.yaml"))["spec"]
        servers.apply(NAME, spec | {"autoscaling": SLEEPY})
        servers.wait_ready(NAME, timeout=_PATIENCE)
        yield servers
        servers.delete(NAME)


# -- one round -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Asked:
    """What the client saw, in seconds since the epoch; 0 for what it did not."""

    began: float = 0.0
    first_news: float = 0.0
    first_token: float = 0.0
    state: str = ""
    problem: str = ""


@dataclass(slots=True)
class Process:
    """What the pod's own /startupz said, and when first."""

    answered: float = 0.0
    phases: dict[str, float] = field(default_factory=dict)


def cold_start(servers: Servers, pods: Watch) -> dict[str, Any]:
    """Seconds of each part, and of all."""
    _wait_until_cold(servers)
    known = {seen.server["metadata"]["name"] for seen in pods.seen}
    asked, process = Asked(), Process()
    asking = threading.Thread(target=_ask, args=(servers.url(NAME), asked))
    asking.start()
    states = _new_pod(pods, known)
    _follow(_url_of(states), process)
    asking.join()
    if asked.problem or not asked.first_token:
        raise SystemExit(f"The request that woke the model got no token: {asked.problem}")
    moments = {
        "wake_up": states[0].at,
        "schedule": _scheduled(pods, states[0]),
        "pod_start": process.answered,
        "load": process.phases.get("WarmingUp", process.phases["Ready"]),
        "warm_up": process.phases["Ready"],
        "first_token": asked.first_token,
    }
    return seconds_of(asked, moments)


def seconds_of(asked: Asked, moments: Mapping[str, float]) -> dict[str, Any]:
    """Between what followed each other: a look that came late ends its part with the next one."""
    at = [asked.began]
    for part in PARTS:
        at.append(min(max(at[-1], moments[part]), asked.first_token))
    parts = {
        f"{part}_seconds": round(end - begin, 3)
        for part, (begin, end) in zip(PARTS, pairwise(at), strict=True)
    }
    whole = asked.first_token - asked.began
    news = asked.first_news - asked.began if asked.first_news else whole
    return {
        "cold_start_seconds": round(whole, 3),
        **parts,
        "first_news_seconds": round(news, 3),
        "state": asked.state,
    }


def _wait_until_cold(servers: Servers) -> None:
    def is_cold() -> bool:
        server = servers.get("modelserver", NAME) or {}
        zero = server.get("status", {}).get("scaling", {}).get("zero", {})
        left = servers.get("pods", "-l", f"modelserver.dev/server={NAME}") or {"items": []}
        return zero.get("phase") == "Cold" and not left["items"]

    wait_until(is_cold, timeout=_PATIENCE, what=f"{NAME} asleep", interval=1)


def _ask(url: str, asked: Asked) -> None:
    asked.began = time.time()
    try:
        with httpx.stream(
            "POST", f"{url}/v1/chat/completions", json=_BODY, timeout=_PATIENCE
        ) as answer:
            for line in answer.iter_lines():
                _note(line, asked)
            asked.state = answer.headers.get("x-model-state", "")
    except httpx.HTTPError as error:
        asked.problem = str(error)


def _note(line: str, asked: Asked) -> None:
    if line.startswith(":"):
        asked.first_news = asked.first_news or time.time()
    elif line.startswith("data: {") and not asked.first_token:
        event = json.loads(line.removeprefix("data: "))
        if any(one.get("delta", {}).get("content") for one in event.get("choices", ())):
            asked.first_token = time.time()
        asked.problem = event.get("error", {}).get("message", "")


def _new_pod(pods: Watch, known: set[str]) -> list[Seen]:
    """Its states so far, when it has an address."""

    def new() -> list[Seen]:
        found = [one for one in list(pods.seen) if one.server["metadata"]["name"] not in known]
        has_address = any(one.status.get("podIP") for one in found)
        return found if has_address else []

    return wait_until(new, timeout=_PATIENCE, what="a pod of the model", interval=_LOOK_SECONDS)


def _scheduled(pods: Watch, first: Seen) -> float:
    states = pods.of(first.server["metadata"]["name"])
    return next(one.at for one in states if one.server["spec"].get("nodeName"))


def _url_of(states: list[Seen]) -> str:
    pod = next(one.server for one in states if one.status.get("podIP"))
    ports = [port for one in pod["spec"]["containers"] for port in one.get("ports", ())]
    port = next(one["containerPort"] for one in ports if one.get("name") == "http")
    return f"http://{pod['status']['podIP']}:{port}/startupz"


def _follow(url: str, process: Process) -> None:
    """Until the model has answered once."""

    def is_ready() -> bool:
        try:
            phase = httpx.get(url, timeout=5).json()["phase"]
        except httpx.HTTPError:
            return False
        now = time.time()
        process.answered = process.answered or now
        process.phases.setdefault(phase, now)
        return bool(phase == "Ready")

    wait_until(is_ready, timeout=_PATIENCE, what="the model loaded", interval=_LOOK_SECONDS)


# -- the result ----------------------------------------------------------------------------------


def _result(arguments: argparse.Namespace, found: list[dict[str, Any]]) -> Result:
    names = [name for name in found[0] if name.endswith("_seconds")]
    return Result(
        bench="coldstart",
        command=f"python -m bench.coldstart --rounds {arguments.rounds}",
        software=versions(["kopf", "torch", "transformers", "uvicorn"])
        | {"kubernetes": KUBERNETES},
        figures={name: round(median(one[name] for one in found), 3) for name in names}
        | {"cold_start_seconds_slowest": max(one["cold_start_seconds"] for one in found)},
        rounds=found,
        note=f"{NOTE} {arguments.note}".strip(),
    )


NOTE = (
    "The parts follow each other: wake_up is until the pod exists (the gateway sets the scale, and "
    "Kubernetes makes the pod), schedule until it has a node, pod_start until its process answers "
    "(network, volume, container, Python and the libraries), load until the weights are there, "
    "warm_up until the model has answered once, first_token until the client has the first token "
    "of its stream. first_news is when the client was told first how far the start is. What makes "
    "them short: the image is on the node; the model is on a volume of the node, and nothing is "
    "fetched; the process listens before it loads, and the gateway asks it for readiness itself, "
    "before Kubernetes has heard of it. States are seen by a watch and by looks every 50 ms. "
    "Kubernetes, the operator, gateways, the model and the client share the machine."
)


if __name__ == "__main__":
    sys.exit(main())
