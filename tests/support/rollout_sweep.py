"""The story of a rollout for the crash sweep: created, then rolled out step by step.

A rollout ends as without a kill, no step is skipped or repeated, and no request counts twice.
"""

from typing import Any

from support.crash_sweep import Lane, Story
from support.kube import Manifest
from support.played_traffic import Traffic
from support.rollouts import canary, intended_weights, reports
from support.servers import Servers, pinned

SETTINGS = {"SETTLE_SECONDS": "1"}
SHADOW = {"percent": 50, "holdSeconds": 0, "minPairs": 20}
STEPS = [
    {"weightPercent": 20, "holdSeconds": 0},
    {"weightPercent": 60, "holdSeconds": 0},
    {"weightPercent": 100, "holdSeconds": 0},
]
WEIGHTS = [0, 20, 60, 100]
ROLLOUT = canary(steps=STEPS, shadow=SHADOW, bakeSeconds=1)

# What was counted, and the sentences about it: they follow from when somebody looked.
_COUNTED = {
    *("gates", "readings", "copies", "comparison", "edges", "stepStableRequests"),
    *("message", "evidence", "lastDecision", "holding", "routeVersion", "observedPercent"),
}


def _create(servers: Servers, name: str) -> None:
    servers.create(name, pinned(replicas=2, rollout=ROLLOUT))


def _roll(servers: Servers, name: str) -> None:
    servers.patch(name, {"runtime": {"args": ["--next"]}})


def _without_counts(end: Manifest) -> Manifest:
    run = end.get("server", {}).get("status", {}).get("rollout")
    if run is not None:
        end["server"]["status"]["rollout"] = _without(run)
    return end


def _without(part: Manifest) -> Manifest:
    """Times are the snapshot's to leave out where they are called so; here they end in `At`."""
    kept = {k: v for k, v in part.items() if k not in _COUNTED and not k.endswith("At")}
    return {k: _without(v) if isinstance(v, dict) else v for k, v in kept.items()}


def story_of(traffic: Traffic) -> Story:
    """`traffic` is the stage's, which knows how many requests there were."""

    def problem(lane: Lane, name: str) -> str:
        return _wrong_weights(lane, name) or _counted_twice(lane, name, traffic)

    return Story(
        phases={"create": _create, "roll": _roll},
        settings=SETTINGS,
        comparable=_without_counts,
        problem=problem,
        ends_in_seconds=300,
    )


def _wrong_weights(lane: Lane, name: str) -> str:
    found = intended_weights(lane.proxy, lane.servers.namespace, name)
    return "" if found in ([], WEIGHTS) else f"the weights were {found}, not {WEIGHTS}"


def _counted_twice(lane: Lane, name: str, traffic: Traffic) -> str:
    for report in reports(lane.proxy, lane.servers.namespace, name):
        run: dict[str, Any] = report.get("rollout", {})
        for side in run.get("comparison", []):
            there_were = traffic.answered(lane.servers.namespace, name, side["revision"])
            if side.get("requests", 0) > there_were:
                return f"{side} were counted of {there_were} requests"
    return ""
