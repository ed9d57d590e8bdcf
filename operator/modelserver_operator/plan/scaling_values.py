"""What a plan says about scaling, and what is asked and heard for it: plain values."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from modelserver_operator.apis.autoscaling import Autoscaling, ScalingQuery
from modelserver_operator.resources.holder_slice import GatewayPod
from modelserver_operator.scaling.effects import ScalingEffects
from modelserver_operator.scaling.engine import EngineChoice
from modelserver_operator.scaling.samples import PodReading


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """How many pods the serving revision shall have: 0 while the server is suspended or sleeps.

    `autoscaling` and `choice` are None where a number of the spec decides; `effects` is None also
    until the first decision is stored.
    """

    replicas: int
    autoscaling: Autoscaling | None = None
    choice: EngineChoice | None = None
    effects: ScalingEffects | None = None

    @property
    def is_asleep(self) -> bool:
        return self.effects is not None and self.effects.is_asleep

    @property
    def is_held(self) -> bool:
        return self.effects is not None and self.effects.is_held


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingQuestion:
    """Names of pods whose metrics are to be read, and queries for Prometheus."""

    pods: tuple[str, ...] = ()
    queries: tuple[ScalingQuery, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingHeard:
    """Answers, by the uid of the pod and the name of the query; who did not answer is missing."""

    at: datetime
    readings: Mapping[str, PodReading] = MappingProxyType({})
    queries: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingObserved:
    """What a reconciliation knows beside the children.

    `heard` is None if nobody was asked this time; `last` is what was heard before that. `gateways`
    are the addresses of those that are ready. `taken_ports` are those of other servers.
    """

    heard: ScalingHeard | None = None
    last: ScalingHeard | None = None
    gateways: tuple[GatewayPod, ...] = ()
    taken_ports: frozenset[int] = frozenset()


NOTHING_SCALED = ScalingObserved()
NO_SIZING = Sizing(replicas=0)
