"""Shows what a ModelServer is doing until it is ready."""

import time
from typing import Any

from rich.console import Console

from devcluster.demo.failure import DemoFailure
from devcluster.demo.kubectl import Kubectl


def follow_until_ready(
    kubectl: Kubectl, console: Console, *, namespace: str, name: str, timeout_seconds: float
) -> dict[str, Any]:
    """Prints each change of the status; returns the ready object.

    Raises DemoFailure with the diagnosis when the time is over or the watch ends.
    """
    deadline = time.monotonic() + timeout_seconds
    said, server = "", {}
    for server in kubectl.watch("-n", namespace, "modelserver", name):
        line = describe(server)
        if line != said:
            console.print(f"      {line}", highlight=False)
            said = line
        if is_ready(server):
            return server
        if time.monotonic() > deadline:
            break
    raise DemoFailure(f"{name} is not ready after {timeout_seconds:.0f} s: {_advice(server)}")


def condition(server: dict[str, Any], kind: str) -> dict[str, Any]:
    conditions = server.get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == kind), {})


def is_ready(server: dict[str, Any]) -> bool:
    ready = condition(server, "Ready")
    generation = server["metadata"]["generation"]
    return ready.get("status") == "True" and ready.get("observedGeneration") == generation


def describe(server: dict[str, Any]) -> str:
    ready = condition(server, "Ready")
    if not ready:
        return "waiting for the operator"
    return f"{ready['reason']}: {ready['message']}"


def _advice(server: dict[str, Any]) -> str:
    diagnosis = server.get("status", {}).get("diagnosis", {})
    if diagnosis.get("code"):
        return f"{diagnosis['code']}: {diagnosis['message']} {diagnosis.get('hint', '')}"
    return f"{describe(server)}; look at `kubectl describe modelserver` and the operator's log"
