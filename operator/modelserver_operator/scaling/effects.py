"""What a stored `status.scaling` asks of the world: the only source of scaling's effects."""

from dataclasses import dataclass

from modelserver_operator.apis.autoscaling import ScalingEngine
from modelserver_operator.apis.scaling_status import ScalingStatus, ZeroPhase

_HELD = {ZeroPhase.STANDBY, ZeroPhase.COLD, ZeroPhase.WAKING}
_OPERATORS_OWN = {ZeroPhase.COLD, ZeroPhase.WAKING}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingEffects:
    """`replicas` are those that the operator itself wants of the serving revision.

    `engine` writes them; `least` (1 or more) and `most` are told to it. `is_held` is whether the
    gateway's addresses belong into the root Service, at `holder_port`.
    """

    engine: ScalingEngine
    replicas: int
    least: int
    most: int
    is_asleep: bool = False
    is_held: bool = False
    holder_port: int | None = None


def effects_of(status: ScalingStatus) -> ScalingEffects:
    phase = status.zero.phase if status.zero is not None else ZeroPhase.WARM
    # One pod that starts is not handed to an autoscaler before it is ready.
    engine = ScalingEngine.OPERATOR if phase in _OPERATORS_OWN else status.engine
    least = max(1, status.min_replicas)
    return ScalingEffects(
        engine=engine,
        replicas=0 if phase is ZeroPhase.COLD else max(1, status.desired),
        least=least,
        most=max(least, status.max_replicas),
        is_asleep=phase is ZeroPhase.COLD,
        is_held=phase in _HELD and status.holder_port is not None,
        holder_port=status.holder_port,
    )


def are_pods_asked(status: ScalingStatus) -> bool:
    """Whether a decision needs to know what pods have counted: never of those that sleep or start,
    of others where their number is the operator's, or where they may go.
    """  # noqa: D205  one sentence
    phase = status.zero.phase if status.zero is not None else None
    if phase in _OPERATORS_OWN:
        return False
    return phase is not None or status.engine is ScalingEngine.OPERATOR
