"""How many pods the serving revision shall have, and who says so.

Like all effects, by the status that was stored: a number that is decided at this look is carried
out at the next.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from modelserver_operator.apis.autoscaling import Autoscaling, ScalingEngine
from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.config import OperatorConfig
from modelserver_operator.plan.looks import deployment_of
from modelserver_operator.plan.scaling_values import Sizing
from modelserver_operator.plan.values import ChildKey, Manifest, Observed
from modelserver_operator.resources import names
from modelserver_operator.resources.hpa import make_hpa
from modelserver_operator.resources.kinds import HORIZONTAL_POD_AUTOSCALER, SCALED_OBJECT
from modelserver_operator.resources.scaled_object import make_scaled_object
from modelserver_operator.scaling.bounds import Bounds, bounds_of
from modelserver_operator.scaling.effects import ScalingEffects, effects_of
from modelserver_operator.scaling.engine import Scalers, engine_of
from modelserver_operator.scaling.handover import (
    Handover,
    Ownership,
    WritersSeen,
    next_handover,
    ownership_of,
)


def sizing_of(server: ModelServer, observed: Observed, config: OperatorConfig) -> Sizing:
    scaling = server.spec.autoscaling
    if server.spec.suspend:
        return Sizing(replicas=0)
    if scaling is None:
        return Sizing(replicas=server.spec.replicas)
    choice = engine_of(scaling, _scalers(observed, config))
    stored = server.status.scaling
    if stored is None:
        first = first_replicas(server, scaling, observed)
        return Sizing(replicas=first, autoscaling=scaling, choice=choice)
    effects = effects_of(stored)
    return Sizing(replicas=effects.replicas, autoscaling=scaling, choice=choice, effects=effects)


def first_replicas(server: ModelServer, scaling: Autoscaling, observed: Observed) -> int:
    """What is there already is where autoscaling begins, within its bounds."""
    deployment = deployment_of(observed, server.name, server.status.serving_revision)
    live = ownership_of(deployment).replicas if deployment is not None else 0
    return max(1, bounds_of(scaling, ()).clamp(live))


def _scalers(observed: Observed, config: OperatorConfig) -> Scalers:
    capabilities = observed.capabilities
    return Scalers(
        has_keda=SCALED_OBJECT in capabilities.kinds,
        has_resource_metrics=capabilities.has_resource_metrics,
        has_prometheus=bool(config.prometheus_url),
    )


# -- of one revision -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionScale:
    """What is to be written of a revision's number of pods now.

    `pods` are those that it shall have at least. `handover` says by whom they are written.
    """

    pods: int
    handover: Handover
    autoscalers: tuple[Manifest, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Demanded:
    """A revision and its pods. `is_serving` where all requests are its own and no run is going on.

    `may_scale` is whether an autoscaler may have it at all: revisions that are about to serve or
    to go, and those of experiments, have a fixed number.
    """

    revision: str
    pods: int
    may_scale: bool
    is_serving: bool


def scale_of(
    server: ModelServer,
    demanded: Demanded,
    sizing: Sizing,
    observed: Observed,
    config: OperatorConfig,
) -> RevisionScale:
    seen = writers_of(server, demanded.revision, observed)
    effects = sizing.effects if demanded.may_scale else None
    if effects is None or sizing.autoscaling is None:
        fixed = next_handover(ScalingEngine.OPERATOR, demanded.pods, seen)
        return RevisionScale(pods=demanded.pods, handover=fixed)
    handover = next_handover(
        effects.engine,
        demanded.pods,
        seen,
        is_asleep=effects.is_asleep,
        is_scaled=demanded.is_serving,
    )
    made = _autoscalers(server, demanded, sizing, handover, observed, config)
    return RevisionScale(pods=demanded.pods, handover=handover, autoscalers=tuple(made))


def writers_of(server: ModelServer, revision: str, observed: Observed) -> WritersSeen:
    deployment = deployment_of(observed, server.name, revision)
    return WritersSeen(
        ownership=ownership_of(deployment) if deployment is not None else None,
        autoscalers=frozenset(_engines_seen(server.name, revision, observed)),
    )


def ownership_seen(server: ModelServer, revision: str, observed: Observed) -> Ownership:
    """Of a revision that may have no Deployment: nobody owns its 0 pods."""
    return writers_of(server, revision, observed).ownership or Ownership(replicas=0)


def _engines_seen(server_name: str, revision: str, observed: Observed) -> Iterator[ScalingEngine]:
    """The HPA that KEDA makes bears our labels and belongs to its ScaledObject."""
    own = names.autoscaler(server_name, revision)
    of_keda = names.autoscaler_of_keda(server_name, revision)
    if ChildKey(HORIZONTAL_POD_AUTOSCALER.kind, own) in observed.children:
        yield ScalingEngine.HPA
    is_watched = ChildKey(HORIZONTAL_POD_AUTOSCALER.kind, of_keda) in observed.strangers
    if is_watched or ChildKey(SCALED_OBJECT.kind, own) in observed.children:
        yield ScalingEngine.KEDA


def _autoscalers(
    server: ModelServer,
    demanded: Demanded,
    sizing: Sizing,
    handover: Handover,
    observed: Observed,
    config: OperatorConfig,
) -> Iterator[Manifest]:
    scaling, effects, choice = sizing.autoscaling, sizing.effects, sizing.choice
    if scaling is None or effects is None or choice is None:
        return
    bounds = _bounds(demanded, effects)
    if handover.autoscaler is ScalingEngine.HPA:
        yield make_hpa(server, demanded.revision, scaling, least=bounds.least, most=bounds.most)
    # Where KEDA has gone, what is stored is about to follow.
    if handover.autoscaler is ScalingEngine.KEDA and SCALED_OBJECT in observed.capabilities.kinds:
        yield make_scaled_object(
            server,
            demanded.revision,
            scaling,
            bounds=(bounds.least, bounds.most),
            prometheus_url=config.prometheus_url,
            ignored=choice.ignored,
        )


def _bounds(demanded: Demanded, effects: ScalingEffects) -> Bounds:
    """What a run needs of a revision is its least."""
    least = effects.least if demanded.is_serving else max(1, demanded.pods)
    return Bounds(least=least, most=max(least, effects.most))
