"""The story of a hand-over for the crash sweep: from an HPA to the operator, to KEDA, to a number.

It ends as without a kill, and on the way there are never fewer pods than all of them want.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from support.crash_sweep import Lane, Story
from support.kube import Kube, Manifest
from support.servers import Servers, pinned

DEPLOYMENTS = "/apis/apps/v1/deployments"
SETTINGS = {"SETTLE_SECONDS": "1"}
PODS = 3
BY_CPU = {
    "engine": "HPA",
    "minReplicas": PODS,
    "maxReplicas": 5,
    "metrics": [{"name": "cpu", "target": 70}],
}
TRIGGER = {"name": "jobs", "type": "rabbitmq", "metadata": {"queueName": "jobs"}}

# What follows from when somebody looked.
_PACED = {"window", "activity", "lastActiveAt", "since", "history", "reason"}


def _create(servers: Servers, name: str) -> None:
    servers.create(name, pinned(autoscaling=BY_CPU))


def _to_operator(servers: Servers, name: str) -> None:
    servers.patch(name, {"autoscaling": {"engine": "Operator"}})


def _to_keda(servers: Servers, name: str) -> None:
    servers.patch(name, {"autoscaling": {"engine": "KEDA", "metrics": None, "triggers": [TRIGGER]}})


def _to_hpa(servers: Servers, name: str) -> None:
    servers.patch(name, {"autoscaling": {**BY_CPU, "triggers": None}})


def _to_number(servers: Servers, name: str) -> None:
    servers.patch(name, {"autoscaling": None, "replicas": PODS})


PHASES = {
    "create": _create,
    "operator": _to_operator,
    "keda": _to_keda,
    "hpa": _to_hpa,
    "number": _to_number,
}


class Numbers:
    """Every number of pods that a Deployment has had, as a watch tells it."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], list[int]] = {}

    def note(self, deployment: Manifest) -> None:
        metadata = deployment["metadata"]
        key = metadata["namespace"], metadata["name"].rpartition("-")[0]
        self._seen.setdefault(key, []).append(deployment["spec"]["replicas"])

    def dip(self, namespace: str, name: str) -> str:
        """Once as many as are wanted were asked for."""
        seen = self._seen.get((namespace, name), [])
        full = seen[seen.index(PODS) :] if PODS in seen else []
        has_dipped = min(full, default=PODS) < PODS
        return f"{PODS} pods were wanted, and there were {seen}" if has_dipped else ""


@contextmanager
def watched_numbers(kube: Kube) -> Iterator[Numbers]:
    numbers, stop = Numbers(), threading.Event()
    version = kube.version_of(DEPLOYMENTS)
    thread = threading.Thread(target=_watch, args=(kube, version, numbers, stop), name="numbers")
    thread.start()
    try:
        yield numbers
    finally:
        stop.set()
        thread.join()


def _watch(kube: Kube, version: str, numbers: Numbers, stop: threading.Event) -> None:
    """One short watch after the other, each from where the last one ended."""
    while not stop.is_set():
        query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "5"}
        with kube.http.stream("GET", DEPLOYMENTS, params=query) as answer:
            for line in answer.iter_lines():
                deployment = json.loads(line)["object"]
                numbers.note(deployment)
                version = deployment["metadata"]["resourceVersion"]


def _without_pace(end: Manifest) -> Manifest:
    status = end.get("server", {}).get("status", {})
    if scaling := status.get("scaling"):
        status["scaling"] = {k: v for k, v in scaling.items() if k not in _PACED}
    for condition in status.get("conditions", []):
        if condition["type"] == "Scaling":
            condition["message"] = ""
            if condition["reason"] == "AutoscalerFailing":  # once the HPA has looked for numbers
                condition |= {"status": "True", "reason": "Chosen"}
    return end


def story_of(numbers: Numbers) -> Story:
    def problem(lane: Lane, name: str) -> str:
        return numbers.dip(lane.servers.namespace, name)

    return Story(
        phases=PHASES,
        settings=SETTINGS,
        comparable=_without_pace,
        problem=problem,
        ends_in_seconds=300,
    )
