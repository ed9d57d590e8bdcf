"""What becomes of a pod, as the status that a kubelet (or the scheduler) would report.

An outcome is a function from a pod to its status. `image_never_pulled` and the like are what a
test names; nothing here talks to the API.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

type Pod = dict[str, Any]
type Status = dict[str, Any]

NOW = "2026-01-01T00:00:00Z"  # of containers; nobody measures with it
COMMIT = "0123456789abcdef0123456789abcdef01234567"
KILLED_BY_KERNEL = 137


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """`is_bound` says whether the scheduler finds a node."""

    name: str
    status_of: Callable[[Pod], Status]
    is_bound: bool = True


def _condition(kind: str, *, holds: bool, reason: str = "", message: str = "") -> dict[str, str]:
    status = "True" if holds else "False"
    condition = {"type": kind, "status": status, "lastTransitionTime": NOW}
    return condition | {k: v for k, v in {"reason": reason, "message": message}.items() if v}


def _conditions(*, initialized: bool, ready: bool) -> list[dict[str, str]]:
    unready = "" if ready else "ContainersNotReady"
    return [
        _condition("PodScheduled", holds=True),
        _condition("Initialized", holds=initialized),
        _condition("ContainersReady", holds=ready, reason=unready),
        _condition("Ready", holds=ready, reason=unready),
    ]


def _container(
    spec: dict[str, Any], state: dict[str, Any], *, ready: bool = False, **more: Any
) -> dict[str, Any]:
    return {
        "name": spec["name"],
        "image": spec["image"],
        "imageID": "",
        "ready": ready,
        "restartCount": 0,
        "state": state,
    } | more


def _terminated(exit_code: int, *, reason: str = "", message: str = "") -> dict[str, Any]:
    state = {"exitCode": exit_code, "startedAt": NOW, "finishedAt": NOW, "message": message}
    return {"terminated": state | {"reason": reason or ("Error" if exit_code else "Completed")}}


def _waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def _running() -> dict[str, Any]:
    return {"running": {"startedAt": NOW}}


def _address_of(pod: Pod) -> str:
    """One of TEST-NET-1: routed nowhere, and accepted in an EndpointSlice."""
    last = 1 + sum(pod["metadata"]["uid"].encode()) % 254
    return f"192.0.2.{last}"


def is_of_job(pod: Pod) -> bool:
    return any(o["kind"] == "Job" for o in pod["metadata"].get("ownerReferences", []))


def _with_address(address: str) -> Status:
    return {"podIP": address, "podIPs": [{"ip": address}], "hostIP": "192.0.2.254"}


def _init_done(pod: Pod, message: str) -> list[dict[str, Any]]:
    done = _terminated(0, message=message)
    return [_container(c, done, ready=True) for c in pod["spec"].get("initContainers", [])]


def _fine(pod: Pod) -> Status:
    report = json.dumps({"revision": COMMIT, "sizeBytes": 250_000_000, "files": 7})
    if is_of_job(pod):
        done = _terminated(0, message=report)
        return {
            "phase": "Succeeded",
            "conditions": _conditions(initialized=True, ready=False),
            "containerStatuses": [_container(c, done) for c in pod["spec"]["containers"]],
        }
    return _with_address(_address_of(pod)) | {
        "phase": "Running",
        "conditions": _conditions(initialized=True, ready=True),
        "initContainerStatuses": _init_done(pod, report),
        "containerStatuses": [
            _container(c, _running(), ready=True, started=True) for c in pod["spec"]["containers"]
        ],
    }


FINE = Outcome(name="fine", status_of=_fine)


def resolving_to(commit: str, size_bytes: int = 250_000_000) -> Outcome:
    """The Job that resolves reports this commit; other pods are fine."""
    report = json.dumps({"revision": commit, "sizeBytes": size_bytes, "files": 7})

    def status_of(pod: Pod) -> Status:
        status = _fine(pod)
        if is_of_job(pod):
            for container in status["containerStatuses"]:
                container["state"]["terminated"]["message"] = report
        return status

    return Outcome(name=f"resolving to {commit}", status_of=status_of)


def starting(address: str = "192.0.2.1") -> Outcome:
    """The init container works; who asks at `address` is told how far it is."""

    def status_of(pod: Pod) -> Status:
        waiting = [_container(c, _waiting("PodInitializing")) for c in pod["spec"]["containers"]]
        init = pod["spec"].get("initContainers", [])
        main = [_container(c, _running()) for c in pod["spec"]["containers"]]
        return _with_address(address) | {
            "phase": "Pending" if init else "Running",
            "conditions": _conditions(initialized=not init, ready=False),
            "initContainerStatuses": [_container(c, _running()) for c in init],
            "containerStatuses": waiting if init else main,
        }

    return Outcome(name="starting", status_of=status_of)


def exiting(
    exit_code: int, *, code: str = "", message: str = "", hint: str = "", where: str = "main"
) -> Outcome:
    """A container ends with a termination message and is restarted with back-off.

    `where`: main or init. The pods of Jobs fail for good.
    """
    said = json.dumps({"code": code, "message": message, "hint": hint}) if code else message
    return _ending(_terminated(exit_code, message=said), where, f"exiting {exit_code}")


def out_of_memory(where: str = "main") -> Outcome:
    return _ending(_terminated(KILLED_BY_KERNEL, reason="OOMKilled"), where, "out of memory")


def _ending(ended: dict[str, Any], where: str, name: str) -> Outcome:
    again = {
        "state": _waiting("CrashLoopBackOff", "back-off 5m0s restarting failed container"),
        "lastState": ended,
        "restartCount": 3,
    }

    def status_of(pod: Pod) -> Status:
        containers, init = pod["spec"]["containers"], pod["spec"].get("initContainers", [])
        if is_of_job(pod):
            return {
                "phase": "Failed",
                "conditions": _conditions(initialized=True, ready=False),
                "containerStatuses": [_container(c, ended) for c in containers],
            }
        if where == "init":
            status = starting().status_of(pod)
            status["initContainerStatuses"] = [_container(c, {}) | again for c in init]
            return status
        return _with_address(_address_of(pod)) | {
            "phase": "Running",
            "conditions": _conditions(initialized=True, ready=False),
            "initContainerStatuses": _init_done(pod, ""),
            "containerStatuses": [_container(c, {}) | again for c in containers],
        }

    return Outcome(name=name, status_of=status_of)


def image_not_pulled(
    reason: str = "ImagePullBackOff", message: str = 'Back-off pulling image "x": not found'
) -> Outcome:
    def status_of(pod: Pod) -> Status:
        init, main = pod["spec"].get("initContainers", []), pod["spec"]["containers"]
        stuck = _waiting(reason, message)
        later = _waiting("PodInitializing")
        return {
            "phase": "Pending",
            "conditions": _conditions(initialized=not init, ready=False),
            "initContainerStatuses": [_container(c, stuck) for c in init],
            "containerStatuses": [_container(c, later if init else stuck) for c in main],
        }

    return Outcome(name=reason, status_of=status_of)


def not_mounted(since: str = NOW) -> Outcome:
    """It has a node, whose kubelet cannot mount its volumes; why is said in Events only."""

    def status_of(pod: Pod) -> Status:
        init, main = pod["spec"].get("initContainers", []), pod["spec"]["containers"]
        conditions = [
            _condition("PodReadyToStartContainers", holds=False),
            *_conditions(initialized=not init, ready=False),
        ]
        creating = _waiting("PodInitializing" if init else "ContainerCreating")
        return {
            "phase": "Pending",
            "conditions": [one | {"lastTransitionTime": since} for one in conditions],
            "initContainerStatuses": [_container(c, creating) for c in init],
            "containerStatuses": [_container(c, creating) for c in main],
        }

    return Outcome(name="not mounted", status_of=status_of)


def unschedulable(
    message: str = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
) -> Outcome:
    def status_of(_pod: Pod) -> Status:
        refused = _condition("PodScheduled", holds=False, reason="Unschedulable", message=message)
        return {"phase": "Pending", "conditions": [refused]}

    return Outcome(name="unschedulable", status_of=status_of, is_bound=False)
