"""Events: what a user should hear about, once, when it happens."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from modelserver_operator.apis.experiment_status import ExperimentPhase
from modelserver_operator.apis.status import ConditionType
from modelserver_operator.plan.values import Manifest
from modelserver_operator.rollout.machine import Said
from modelserver_operator.status.conditions import Reason
from modelserver_operator.status.wording import sentences, shortened


class EventType(StrEnum):
    NORMAL = "Normal"
    WARNING = "Warning"


class Action(StrEnum):
    """What the operator was doing; the part of the status that the event is about."""

    RESOLVE = "Resolve"
    SERVE = "Serve"
    ROLL_OUT = "RollOut"
    DIAGNOSE = "Diagnose"
    EXPERIMENT = "Experiment"
    SCALE = "Scale"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Fields as in events.k8s.io/v1; `message` is its `note`, at most 1024 bytes."""

    type: EventType
    reason: str
    action: str
    message: str


def events_of(old_status: Manifest, new_status: Manifest) -> tuple[Event, ...]:
    """The transitions between two statuses as stored (`{}` for none); none if nothing changed."""
    return (
        *_resolution(old_status, new_status),
        *_rollout(old_status, new_status),
        *_readiness(old_status, new_status),
        *_diagnosis(old_status, new_status),
        *_experiments(old_status, new_status),
        *_scaling(old_status, new_status),
    )


def event_of(said: Said) -> Event:
    """About a rollout that evidence decides."""
    return _event(EventType(said.type), said.reason, Action.ROLL_OUT, said.message)


def _event(kind: EventType, reason: str, action: Action, *message: str) -> Event:
    note = shortened(sentences(*message))
    return Event(type=kind, reason=reason, action=action.value, message=note)


def _normal(reason: str, action: Action, *message: str) -> Event:
    return _event(EventType.NORMAL, reason, action, *message)


def _condition(status: Manifest, kind: ConditionType) -> dict[str, Any]:
    conditions = status.get("conditions") or ()
    return next((one for one in conditions if one.get("type") == kind), {})


def _resolution(old: Manifest, new: Manifest) -> Iterator[Event]:
    """A model that needs no hub is not worth an event."""
    before = (old.get("artifact") or {}).get("resolvedRevision", "")
    after = (new.get("artifact") or {}).get("resolvedRevision", "")
    if after and after != before:
        said = _condition(new, ConditionType.MODEL_RESOLVED).get("message", "")
        yield _normal("Resolved", Action.RESOLVE, said)


def _rollout(old: Manifest, new: Manifest) -> Iterator[Event]:
    before, after = old.get("rollout") or {}, new.get("rollout") or {}
    if "strategy" in before or "strategy" in after:  # whoever decides by evidence says so himself
        return
    was, now = before.get("to", ""), after.get("to", "")
    if was and now != was:
        yield _end_of_rollout(before, new)
    if now and now != was:
        message = f"revision {now} starts to take over from {after.get('from', '')}"
        yield _normal("RolloutStarted", Action.ROLL_OUT, message)


def _end_of_rollout(rollout: Manifest, new: Manifest) -> Event:
    serving, target = new.get("servingRevision", ""), rollout["to"]
    if serving == target:
        return _normal("RolloutFinished", Action.ROLL_OUT, f"revision {target} has taken over")
    message = f"revision {target} is not wanted any more; revision {serving} serves"
    return _normal("RolloutAbandoned", Action.ROLL_OUT, message)


def _readiness(old: Manifest, new: Manifest) -> Iterator[Event]:
    before, after = (_condition(status, ConditionType.READY) for status in (old, new))
    was, now = before.get("status", ""), after.get("status", "")
    said = after.get("message", "")
    if _is_suspended(after) != _is_suspended(before):
        yield _normal("Suspended" if _is_suspended(after) else "Resumed", Action.SERVE, said)
    elif was == "True" and now == "False":
        yield _event(EventType.WARNING, "NotReady", Action.SERVE, said)
    if now == "True" and was != "True":
        yield _normal("Ready", Action.SERVE, said)


def _is_suspended(ready: Manifest) -> bool:
    return ready.get("reason") == Reason.SUSPENDED


def _diagnosis(old: Manifest, new: Manifest) -> Iterator[Event]:
    before, after = old.get("diagnosis") or {}, new.get("diagnosis") or {}
    code = after.get("code", "")
    if code and code != before.get("code", ""):
        said = after.get("message", ""), after.get("hint", "")
        yield _event(EventType.WARNING, code, Action.DIAGNOSE, *said)


def _experiments(old: Manifest, new: Manifest) -> Iterator[Event]:
    before, after = (_by_name(status.get("experiments") or ()) for status in (old, new))
    for name, now in after.items():
        was = before.get(name, {})
        if now["phase"] == was.get("phase") and now.get("revision") == was.get("revision"):
            continue
        about = f"experiment {name}: "
        if now["phase"] == ExperimentPhase.RUNNING:
            message = f"{about}revision {now['revision']} answers its requests"
            yield _normal("ExperimentRunning", Action.EXPERIMENT, message)
        elif now["phase"] == ExperimentPhase.WAITING:
            kind = EventType.WARNING if was.get("phase") else EventType.NORMAL
            message = about + now.get("message", "")
            yield _event(kind, "ExperimentWaiting", Action.EXPERIMENT, message)
    for name in before.keys() - after.keys():
        yield _normal("ExperimentEnded", Action.EXPERIMENT, _end_in_words(before[name]))


def _by_name(items: Iterable[Manifest]) -> dict[str, Manifest]:
    return {one["name"]: one for one in items}


def _end_in_words(experiment: Manifest) -> str:
    """Its last numbers, which the status keeps no longer."""
    own, stable = (_numbers(experiment.get(one) or {}) for one in ("answered", "stable"))
    revision = experiment.get("revision", "")
    return f"experiment {experiment['name']} is over; revision {revision}: {own}; stable: {stable}"


def _numbers(track: Manifest) -> str:
    times = (
        f"p50 {track['p50Milliseconds']} ms, p90 {track['p90Milliseconds']} ms"
        if "p90Milliseconds" in track
        else ""
    )
    parts = (f"{track.get('requests', 0)} requests", f"{track.get('errors', 0)} errors", times)
    return ", ".join(filter(None, parts))


def _scaling(old: Manifest, new: Manifest) -> Iterator[Event]:
    """The first number is no change of anything."""
    before, after = old.get("scaling") or {}, new.get("scaling") or {}
    if before and after and before["desired"] != after["desired"]:
        change = f"from {before['desired']} to {after['desired']}"
        yield _normal("Scaled", Action.SCALE, f"pods {change}: {after.get('reason', '')}")
    was, now = (_condition(status, ConditionType.SCALING) for status in (old, new))
    if now.get("status") == "False" and now.get("reason") != was.get("reason"):
        yield _event(EventType.WARNING, now["reason"], Action.SCALE, now["message"])
