"""How scaling goes on: from the stored status and one look at the world to the next status.

    schedules → activity → sleep → the engine's number → history

The number that is stored is carried out by `effects`; an HPA's or KEDA's is only written down.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from modelserver_operator.apis.autoscaling import Zero
from modelserver_operator.apis.scaling_status import (
    FIRST_HOLDER_PORT,
    LAST_HOLDER_PORT,
    ScalingStatus,
    ZeroPhase,
)
from modelserver_operator.scaling.activity import is_quiet, is_worth_writing, mark_of
from modelserver_operator.scaling.bounds import Bounds, bounds_of
from modelserver_operator.scaling.choosing import Decision, Scene, awake_decision
from modelserver_operator.scaling.effects import are_pods_asked
from modelserver_operator.scaling.history import remembered
from modelserver_operator.scaling.schedule import Timetable, timetable
from modelserver_operator.scaling.sight import ScalingSight, ScalingWish
from modelserver_operator.scaling.times import believed, timestamp
from modelserver_operator.scaling.zero import Sleep, ZeroSight, idle_limit_seconds, next_sleep

# As often as an HPA looks (--horizontal-pod-autoscaler-sync-period).
LOOK_SECONDS = 15.0
_SHORTEST_SECONDS = 0.5
_LONGEST_WORD, _LONGEST_MESSAGE = 40, 160


@dataclass(frozen=True, slots=True, kw_only=True)
class NextScaling:
    """What is to be written; `wake_seconds` is when to look again, if nothing happens before.

    `status` is None where nothing is scaled.
    """

    status: ScalingStatus | None
    wake_seconds: float | None


def decide(stored: ScalingStatus | None, sight: ScalingSight, wish: ScalingWish) -> NextScaling:
    """Pure: the same arguments give the same answer, and the status it gives may be refused."""
    hours = timetable(wish.scaling.schedules, sight.now)
    bounds = bounds_of(wish.scaling, hours.active, floor=wish.floor)
    before = _mended(stored, sight.now) if stored else _first(sight, wish, bounds)
    scene = Scene(before=before, sight=sight, wish=wish, bounds=bounds)
    sleep = _slept(scene)
    status = _written(scene, sleep, _decided(scene, sleep), hours)
    delays = [one for one in _delays(hours, sleep, status) if one is not None]
    return NextScaling(
        status=status,
        wake_seconds=max(_SHORTEST_SECONDS, min(delays)) if delays else None,
    )


def _first(sight: ScalingSight, wish: ScalingWish, bounds: Bounds) -> ScalingStatus:
    """What is there already is where it begins; the first pod shows that the model works."""
    return ScalingStatus(
        engine=wish.choice.engine,
        desired=max(1, bounds.clamp(sight.ownership.replicas)),
        since=timestamp(sight.now),
        last_active_at=timestamp(sight.now),
    )


def _mended(stored: ScalingStatus, now: datetime) -> ScalingStatus:
    """Where the clock was set back."""
    times = {name: getattr(stored, name) for name in ("since", "last_active_at")}
    mended = {name: believed(text, now) for name, text in times.items()}
    return stored if mended == times else stored.model_copy(update=mended)


def _slept(scene: Scene) -> Sleep | None:
    """None where the server never sleeps; one that sleeps is woken first."""
    zero, sight = scene.before.zero, scene.sight
    is_awake = zero is None or zero.phase is ZeroPhase.WARM
    if scene.wish.scaling.resting is None and is_awake:
        return None
    seen = ZeroSight(
        now=sight.now,
        is_woken=sight.ownership.is_woken,
        ready=sight.ready,
        is_slice_seen=sight.is_slice_seen,
        is_gateway_ready=sight.is_gateway_ready,
        is_quiet=is_quiet(scene.before, sight.readings, len(sight.pods)),
        awake_because=_awake_because(scene),
    )
    return next_sleep(scene.before, seen, _rules(scene.wish), scene.wish.settle_seconds)


def _rules(wish: ScalingWish) -> Zero:
    return wish.scaling.resting or Zero()


def _awake_because(scene: Scene) -> str:
    if scene.wish.awake_because:
        return scene.wish.awake_because
    if scene.wish.is_rolling:
        return "Rollout"
    if scene.bounds.least == 0:
        return ""
    return "Schedule" if scene.wish.scaling.min_replicas == 0 else "MinReplicas"


def _decided(scene: Scene, sleep: Sleep | None) -> Decision:
    if sleep is not None and sleep.zero.phase is ZeroPhase.COLD:
        return Decision(desired=0, reason=sleep.zero.reason)
    return awake_decision(scene)


def _written(
    scene: Scene, sleep: Sleep | None, decision: Decision, hours: Timetable
) -> ScalingStatus:
    before, now, desired = scene.before, scene.sight.now, decision.desired
    changes: dict[str, object] = {
        "engine": scene.wish.choice.engine,
        "message": _message(scene.wish, hours),
        "min_replicas": scene.bounds.least,
        "max_replicas": scene.bounds.most,
        "window": decision.window,
        **_sleep_fields(scene, sleep),
    }
    if desired != before.desired:
        changes |= {
            "desired": desired,
            "reason": _shortened(decision.reason, _LONGEST_WORD),
            "since": timestamp(now),
            "history": remembered(
                before.history, before.desired, desired, reason=decision.reason, now=now
            ),
        }
    return before.model_copy(update=changes)


def _sleep_fields(scene: Scene, sleep: Sleep | None) -> dict[str, object]:
    if sleep is None:
        return {"zero": None, "activity": "", "holder_port": None}
    fields: dict[str, object] = {
        "zero": sleep.zero,
        "cold_start_seconds": sleep.cold_start_seconds,
        "holder_port": scene.before.holder_port or free_port(scene.sight.taken_ports),
    }
    return fields | (_activity_fields(scene, sleep) if sleep.is_active else {})


def _activity_fields(scene: Scene, sleep: Sleep) -> dict[str, object]:
    """What is left out now is noticed, as still new, by the next look."""
    before, sight = scene.before, scene.sight
    has_moved = before.zero is None or sleep.zero.phase is not before.zero.phase
    idle = idle_limit_seconds(before, _rules(scene.wish))
    is_worth = is_worth_writing(before, idle, sight.now) or not before.activity
    if not (has_moved or is_worth):
        return {}
    mark = before.activity if sight.readings is None else mark_of(sight.readings)
    return {"last_active_at": timestamp(sight.now), "activity": mark}


def free_port(taken: frozenset[int]) -> int | None:
    """The lowest that no other server has; None when all ten thousand are given."""
    ports = range(FIRST_HOLDER_PORT, LAST_HOLDER_PORT + 1)
    return next((port for port in ports if port not in taken), None)


def _message(wish: ScalingWish, hours: Timetable) -> str:
    said = " ".join(filter(None, (*hours.problems, wish.choice.problem)))
    return _shortened(said, _LONGEST_MESSAGE)


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _delays(hours: Timetable, sleep: Sleep | None, status: ScalingStatus) -> Iterator[float | None]:
    yield hours.next_edge_seconds
    yield sleep.wake_seconds if sleep is not None else None
    yield LOOK_SECONDS if are_pods_asked(status) else None
