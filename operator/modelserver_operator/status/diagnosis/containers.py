"""Reads how the containers of a pod stand: waiting for what, ended how, and what they said."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelserver_operator.plan.values import Manifest
from modelserver_operator.status import pods


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A termination message in the form of the runtime; empty where it is none."""

    code: str = ""
    message: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a container ended that should not have."""

    exit_code: int
    reason: str  # of the kubelet: Error, OOMKilled, Completed, ContainerCannotRun, StartError
    text: str  # the termination message as it came: JSON, or the end of the log
    said: Said
    seconds: float | None  # how long it ran


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """A container of a pod that is not ready."""

    pod: str
    name: str
    is_init: bool
    image: str
    spec: Mapping[str, Any]
    grace_seconds: float  # between the kubelet's decision to stop it and SIGKILL
    waiting_reason: str
    waiting_message: str
    ended: Ended | None


def container_states(pod: Manifest) -> Iterator[ContainerState]:
    """In the order in which they start."""
    for kind, is_init in (("initContainers", True), ("containers", False)):
        specs = {str(spec["name"]): spec for spec in pod["spec"].get(kind) or ()}
        statuses = pods.status_of(pod).get(f"{kind[:-1]}Statuses") or ()
        for status in statuses:
            yield _state_of(pod, specs.get(str(status["name"]), {}), status, is_init=is_init)


def _state_of(
    pod: Manifest, spec: Mapping[str, Any], status: Mapping[str, Any], *, is_init: bool
) -> ContainerState:
    waiting = (status.get("state") or {}).get("waiting") or {}
    return ContainerState(
        pod=pods.name_of(pod),
        name=str(status["name"]),
        is_init=is_init,
        image=str(spec.get("image") or status.get("image") or ""),
        spec=spec,
        grace_seconds=float(pod["spec"].get("terminationGracePeriodSeconds", 30)),
        waiting_reason=str(waiting.get("reason", "")),
        waiting_message=str(waiting.get("message", "")),
        ended=_ended(spec, status, may_end=is_init or bool(pods.job_of(pod))),
    )


def _ended(spec: Mapping[str, Any], status: Mapping[str, Any], *, may_end: bool) -> Ended | None:
    """The last end that has not been overcome: it has not started well since."""
    state, last = status.get("state") or {}, status.get("lastState") or {}
    if "terminated" in state:
        end = state["terminated"]
    elif "running" in state and "startupProbe" in spec and status.get("started"):
        return None
    else:
        end = last.get("terminated")
    if not end or (may_end and end.get("exitCode") == 0):
        return None
    return _end(end)


def _end(terminated: Mapping[str, Any]) -> Ended:
    text = str(terminated.get("message") or "")
    return Ended(
        exit_code=int(terminated.get("exitCode", 0)),
        reason=str(terminated.get("reason") or ""),
        text=text,
        said=said_in(text),
        seconds=_seconds(terminated.get("startedAt"), terminated.get("finishedAt")),
    )


def said_in(text: str) -> Said:
    report = report_in(text)
    texts = {key: value for key, value in report.items() if isinstance(value, str)}
    return Said(
        code=texts.get("code", ""), message=texts.get("message", ""), hint=texts.get("hint", "")
    )


def report_in(text: str) -> Mapping[str, Any]:
    """The JSON object that a command of the runtime left as its last line; empty if none is."""
    last_line = text.strip().rpartition("\n")[2]
    try:
        report = json.loads(last_line)
    except ValueError:
        return {}
    return report if isinstance(report, dict) else {}


def _seconds(started: str | None, finished: str | None) -> float | None:
    if not started or not finished:
        return None
    try:
        began, ended = datetime.fromisoformat(started), datetime.fromisoformat(finished)
    except ValueError:
        return None
    return (ended - began).total_seconds()
