"""Which revisions live, with how many pods, and how requests come to them.

no run of an examined rollout    `rolling`: read from what exists
a run                            `rollout.effects`: read from the status that was stored
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.config import OperatorConfig
from modelserver_operator.plan.rolling import roll
from modelserver_operator.plan.routing import Routing, resting_routing, routing_of
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
    """Of the live revisions, which keep their children."""
    routing: Routing | None = None
    """How requests are divided; None where nothing divides them."""
    route_problem: str = ""
    """Why nothing can, if that is so."""
    examined: str = ""
    """The revision that the golden set shall be asked of."""
    wait_seconds: float | None = None

    @property
    def live(self) -> frozenset[str]:
        return frozenset(self.replicas)


def arrange(
    server: ModelServer, wish: Wish, observed: Observed, config: OperatorConfig, now: datetime
) -> Arrangement:
    if not is_examined(server, wish):
        return _rolling(server, wish, wish.target, observed, config, now)
    if is_governed(server.status, wish):
        return _by_evidence(server, wish, choice_of(server, observed))
    wanted = wanted_revision(server.status, wish.target)
    return _rolling(server, wish, wanted, observed, config, now)


def is_examined(server: ModelServer, wish: Wish) -> bool:
    """Whether the state machine has ever had anything to do with this server, or may have now."""
    status, spec = server.status, server.spec
    is_asked = spec.rollout is not None or spec.traffic is not None or wish.command != ""
    run = status.rollout
    is_going_on = run is not None and run.is_decided_by_evidence
    return is_asked or is_going_on or bool(status.failed_revisions or status.rolled_back_to)


def _rolling(
    server: ModelServer,
    wish: Wish,
    wanted: str,
    observed: Observed,
    config: OperatorConfig,
    now: datetime,
) -> Arrangement:
    rolling = roll(server, wanted, observed, now, config.settle_seconds)
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
    )
