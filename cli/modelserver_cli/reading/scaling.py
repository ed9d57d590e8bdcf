"""What decides how many pods there are, and how it has decided of late."""

from dataclasses import dataclass
from datetime import datetime

from modelserver_operator.apis.scaling_status import Scaling
from modelserver_operator.apis.status import ConditionStatus, ConditionType, ModelServerStatus
from modelserver_operator.rollout.clocks import seconds_since

SHOWN = 3  # changes: the newest say most


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingChange:
    seconds_ago: float
    before: int
    after: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPicture:
    """`phase` is "" where the server never sleeps; `problem` is what is not looked at, and why."""

    engine: str
    desired: int
    least: int
    most: int
    phase: str
    phase_seconds: float
    cold_start_seconds: int | None
    problem: str
    changes: tuple[ScalingChange, ...]


def scaling_of(status: ModelServerStatus, now: datetime) -> ScalingPicture | None:
    scaling = status.scaling
    if scaling is None:
        return None
    zero, condition = scaling.zero, status.condition(ConditionType.SCALING)
    is_limited = condition is not None and condition.status is ConditionStatus.FALSE
    newest = reversed(scaling.history[-SHOWN:])
    return ScalingPicture(
        engine=scaling.engine.value,
        desired=scaling.desired,
        least=scaling.min_replicas,
        most=scaling.max_replicas,
        phase=zero.phase.value if zero is not None else "",
        phase_seconds=seconds_since(zero.since, now) if zero is not None else 0.0,
        cold_start_seconds=scaling.cold_start_seconds,
        problem=condition.message if condition is not None and is_limited else "",
        changes=tuple(_change(one, now) for one in newest),
    )


def _change(one: Scaling, now: datetime) -> ScalingChange:
    seconds = seconds_since(one.at, now)
    return ScalingChange(seconds_ago=seconds, before=one.from_, after=one.to, reason=one.reason)
