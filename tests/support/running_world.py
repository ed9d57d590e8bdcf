"""A ModelServer in memory in the middle of a rollout, as the stored status tells it."""

from typing import Any

from support.planning import Manifest, World, a_world

FIRST, SECOND = {"args": ["--first"]}, {"args": ["--second"]}
CANARY = {"strategy": "Canary"}
SINCE = "2026-11-21T12:00:00Z"


def running_world(
    phase: str = "Analyzing", *, weight: int = 20, replicas: int = 4, **run: Any
) -> tuple[World, str, str]:
    """Revision A serves, B is asked for, and a run between them is stored."""
    world = a_world(
        {
            "model": {"uri": "pvc://models"},
            "runtime": FIRST,
            "replicas": replicas,
            "rollout": CANARY,
        }
    )
    world.settle()
    world.make_all_ready()
    world.settle()
    old = world.root_revision()
    world.change(runtime=SECOND)
    new = world.plan().target_revision
    world.manifest["status"]["rollout"] = {
        "id": f"2-{new}",
        "from": old,
        "to": new,
        "strategy": "Canary",
        "phase": phase,
        "startTime": SINCE,
        "phaseSince": SINCE,
        "weights": {"intended": weight, "confirmed": weight, "confirmedAt": SINCE},
        "routedAt": SINCE,
        "spec": CANARY,
    } | run
    return world, old, new


def router_pod(name: str = "chat-router-1", **annotations: str) -> Manifest:
    labels = {"modelserver.dev/server": "chat", "modelserver.dev/role": "router"}
    metadata = {"name": name, "uid": name, "labels": labels, "annotations": annotations}
    ready = {"conditions": [{"type": "Ready", "status": "True"}], "podIP": "192.0.2.7"}
    return {"kind": "Pod", "metadata": metadata, "spec": {}, "status": ready}


def replicas(world: World, revision: str) -> int:
    return world.deployment(revision)["spec"]["replicas"]
