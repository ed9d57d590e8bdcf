"""Which revisions live, with how many pods, and how requests come to them.

no run of an examined rollout    `rolling`: read from what exists
a run                            `rollout.effects`: read from the status that was stored
experiments                      beside either of them, as stored; see `rollout.experiments`
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType

from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.config import OperatorConfig
from modelserver_operator.plan.experiments import (
    Tried,
    beside_rolling,
    beside_run,
    present_pods,
    routed_experiments,
    wanted_pods,
)
from modelserver_operator.plan.rolling import roll
from modelserver_operator.plan.routing import (
    Routing,
    resting_routing,
    routing_of,
    with_experiments,
)
from modelserver_operator.plan.scaling_values import Sizing
from modelserver_operator.plan.values import Observed
from modelserver_operator.plan.wishes import choice_of
from modelserver_operator.resources.router_choice import RouterChoice
from modelserver_operator.rollout.effects import effects_of, is_governed, wanted_revision
from modelserver_operator.rollout.sight import Wish


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """What lives and what answers."""

    wanted: str
    """What is to serve in the end: the spec's revision, unless that has failed or a command says
    otherwise; "" while it is not known."""
    serving: str
    """What answers whatever no route sends elsewhere; "" if nothing can."""
    replicas: Mapping[str, int]
    """Of the revisions that serve or shall serve, which keep their children."""
    tried: Mapping[str, int] = MappingProxyType({})
    """Of those that live for experiments only; none of them is in `replicas`."""
    routing: Routing | None = None
    """How requests are divided; None where nothing divides them."""
    route_problem: str = ""
    """Why nothing can, if that is so."""
    is_run: bool = False
    """Whether evidence decides what becomes of the revisions in `replicas`."""
    examined: str = ""
    """The revision that the golden set shall be asked of."""
    wait_seconds: float | None = None

    @property
    def live(self) -> frozenset[str]:
        return frozenset(self.pods)

    @property
    def pods(self) -> Mapping[str, int]:
        """Of all live revisions."""
        return {**self.replicas, **self.tried}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a server asks for, as it was found."""

    server: ModelServer
    wish: Wish
    sizing: Sizing
    tried: Sequence[Tried] = ()


def arrange(asked: Asked, observed: Observed, config: OperatorConfig, now: datetime) -> Arrangement:
    server, wish = asked.server, asked.wish
    wanted_by_experiments = wanted_pods(server, asked.tried, observed)
    choice = choice_of(server, observed)
    if is_examined(server, wish) and is_governed(server.status, wish):
        arrangement = _by_evidence(server, wish, choice)
        own, tried = beside_run(arrangement.replicas, wanted_by_experiments)
    else:
        arrangement = _rolling(server, wish, observed, config, now)
        needed = {arrangement.wanted, arrangement.serving}
        present = {one: present_pods(server, one, observed) for one in wanted_by_experiments}
        own, tried = beside_rolling(arrangement.replicas, wanted_by_experiments, needed, present)
    arrangement = replace(arrangement, replicas=own, tried=tried)
    if not choice.is_possible:
        return arrangement
    return replace(arrangement, routing=_routed(asked, arrangement))


def _routed(asked: Asked, arrangement: Arrangement) -> Routing | None:
    return with_experiments(
        asked.server,
        arrangement.routing,
        router=asked.wish.router,
        serving=arrangement.serving,
        live=arrangement.live,
        experiments=routed_experiments(asked.server, asked.tried),
    )


def is_examined(server: ModelServer, wish: Wish) -> bool:
    """Whether the state machine has ever had anything to do with this server, or may have now."""
    status, spec = server.status, server.spec
    is_asked = spec.rollout is not None or spec.traffic is not None or wish.command != ""
    run = status.rollout
    is_going_on = run is not None and run.is_decided_by_evidence
    return is_asked or is_going_on or bool(status.failed_revisions or status.rolled_back_to)


def _rolling(
    server: ModelServer, wish: Wish, observed: Observed, config: OperatorConfig, now: datetime
) -> Arrangement:
    is_ever_examined = is_examined(server, wish)
    wanted = wanted_revision(server.status, wish.target) if is_ever_examined else wish.target
    rolling = roll(server, wanted, wish.replicas, observed, now, config.settle_seconds)
    choice = choice_of(server, observed)
    routing = resting_routing(server, rolling.serving, rolling.live, choice.router)
    return Arrangement(
        wanted=wanted,
        serving=rolling.serving,
        replicas=dict.fromkeys(sorted(rolling.live), wish.replicas),
        routing=routing if choice.is_possible else None,
        route_problem=choice.problem,
        wait_seconds=rolling.wait_seconds,
    )


def _by_evidence(server: ModelServer, wish: Wish, choice: RouterChoice) -> Arrangement:
    effects = effects_of(server.status, wish)
    resting = resting_routing(server, effects.root, effects.replicas, wish.router)
    routing = routing_of(server, effects, wish.router) or resting
    return Arrangement(
        wanted=wanted_revision(server.status, wish.target),
        serving=effects.root,
        replicas=effects.replicas,
        routing=routing if choice.is_possible else None,
        route_problem=choice.problem,
        examined=effects.preflight,
        is_run=True,
    )
