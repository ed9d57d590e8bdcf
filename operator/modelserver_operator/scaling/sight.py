"""What a decision about the number of pods is made from: what is asked for, and what is seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from modelserver_operator.apis.autoscaling import Autoscaling
from modelserver_operator.scaling.engine import EngineChoice
from modelserver_operator.scaling.handover import Ownership
from modelserver_operator.scaling.samples import PodReading, Requests

NOBODY = Ownership(replicas=0)
NO_REQUESTS = Requests()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingWish:
    """What the ModelServer asks for.

    `floor` is the least that a rollout needs; `is_rolling` while one goes on, in which nothing
    shrinks and nothing sleeps. `awake_because` is what else must not sleep, in one word. `requests`
    are those of the serving revision's server container.
    """

    scaling: Autoscaling
    choice: EngineChoice
    requests: Requests = NO_REQUESTS
    floor: int = 0
    is_rolling: bool = False
    awake_because: str = ""
    settle_seconds: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingSight:
    """One look at the serving revision, at `now` (aware, in UTC).

    `pods` are the uids of its pods that do not end. `readings` are None if nobody was asked this
    time; `before` are those of the look before, for rates. `taken_ports` are those of other
    servers' status.
    """

    now: datetime
    ownership: Ownership = NOBODY
    pods: Sequence[str] = ()
    ready: int = 0
    readings: Sequence[PodReading] | None = None
    before: Mapping[str, PodReading] = MappingProxyType({})
    queries: Mapping[str, float] = MappingProxyType({})
    is_slice_seen: bool = False
    is_gateway_ready: bool = False
    taken_ports: frozenset[int] = frozenset()
