"""Which router divides the traffic of a server, and what it cannot do."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from modelserver_operator.apis.rollout import RolloutSpec, Strategy
from modelserver_operator.apis.traffic import Experiment, Router, Traffic
from modelserver_operator.resources.kinds import (
    DESTINATION_RULE,
    HTTP_ROUTE,
    VIRTUAL_SERVICE,
    Kind,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What the cluster has beyond Kubernetes itself.

    `outdated` are kinds that lack a field which we write, by the path of that field: the API server
    would drop it without a word, and a mirror without its fraction copies everything.
    """

    kinds: frozenset[Kind] = frozenset()
    outdated: Mapping[Kind, str] = field(default_factory=lambda: MappingProxyType({}))
    has_resource_metrics: bool = False  # metrics.k8s.io, which says what pods use

    def can_write(self, router: Router) -> bool:
        return self.kinds.issuperset(_KINDS.get(router, ()))


NO_CAPABILITIES = Capabilities()


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterChoice:
    """`router` divides the traffic; with a `problem` it cannot, and nobody does.

    `problem` is a sentence for whoever wrote the spec, with `reason` as its code.
    """

    router: Router
    reason: str
    message: str
    problem: str = ""

    @property
    def is_possible(self) -> bool:
        return not self.problem


_KINDS: Mapping[Router, tuple[Kind, ...]] = {
    Router.ISTIO: (DESTINATION_RULE, VIRTUAL_SERVICE),
    Router.GATEWAY_API: (HTTP_ROUTE,),
}
_PROJECTS = {Router.ISTIO: "Istio 1.24", Router.GATEWAY_API: "the Gateway API 1.3"}
_FROM_OUTSIDE = (Router.ISTIO, Router.GATEWAY_API)


def router_of(
    traffic: Traffic, rollout: RolloutSpec | None, capabilities: Capabilities
) -> RouterChoice:
    if traffic.router is Router.AUTO:
        choice = _automatic(traffic, capabilities)
    else:
        choice = RouterChoice(
            router=traffic.router, reason="Chosen", message="spec.traffic.router names it"
        )
    problem = _missing(choice.router, capabilities) or _beyond(choice.router, traffic, rollout)
    return _refused(choice, *problem) if problem else choice


def _automatic(traffic: Traffic, capabilities: Capabilities) -> RouterChoice:
    if not traffic.gateways:
        message = "spec.traffic.gateways is empty, so nothing but the built-in router is needed"
        return RouterChoice(router=Router.GATEWAY, reason="NoGateways", message=message)
    for router in _FROM_OUTSIDE:
        if capabilities.can_write(router):
            message = f"spec.traffic.gateways is given and the cluster has {_named(router)}"
            return RouterChoice(router=router, reason="Found", message=message)
    message = _nothing_for_gateways(capabilities)
    return RouterChoice(router=Router.GATEWAY, reason="NotFound", message=message)


def _nothing_for_gateways(capabilities: Capabilities) -> str:
    lacking = " ".join(_lacking(router, capabilities) for router in _FROM_OUTSIDE)
    return (
        f"spec.traffic.gateways is given, but nobody in the cluster can be told of it. {lacking}"
        " The built-in router divides what comes through the Service."
    )


def _missing(router: Router, capabilities: Capabilities) -> tuple[str, str] | None:
    if router not in _KINDS or capabilities.can_write(router):
        return None
    message = (
        f"spec.traffic.router is {router}. {_lacking(router, capabilities)} Install"
        f" {_PROJECTS[router]} or later, or set router to Gateway; until then all requests go to"
        " the stable revision."
    )
    return "RouterMissing", message


def _lacking(router: Router, capabilities: Capabilities) -> str:
    kind = next(one for one in _KINDS[router] if one not in capabilities.kinds)
    if path := capabilities.outdated.get(kind):
        return f"The cluster's {kind.kind} of {kind.api_version} is too old: it has no {path}."
    return f"The cluster has no {kind.kind} of {kind.api_version}."


def _named(router: Router) -> str:
    return " and ".join(f"{kind.kind} of {kind.api_version}" for kind in _KINDS[router])


def _beyond(
    router: Router, traffic: Traffic, rollout: RolloutSpec | None
) -> tuple[str, str] | None:
    """What only a router can do that looks at more than one request, or at nothing at all."""
    if router is Router.GATEWAY:
        return None
    if wanted := list(_only_built_in(router, traffic, rollout)):
        fields = " and ".join(wanted)
        message = (
            f"{fields} cannot be done by router {router}; remove it, or set spec.traffic.router to"
            " Gateway without gateways"
        )
        return "RouterCannot", message
    return None


def _only_built_in(router: Router, traffic: Traffic, rollout: RolloutSpec | None) -> Iterator[str]:
    if traffic.sticky is not None:
        yield "spec.traffic.sticky"
    strategy = rollout.chosen if rollout else Strategy.ROLLING
    if strategy is Strategy.HOLD_AND_SWAP:
        yield "spec.rollout.strategy HoldAndSwap"
    if router is Router.NONE and strategy is Strategy.CANARY:
        yield f"spec.rollout.strategy {strategy}"


def experiment_problem(choice: RouterChoice, experiment: Experiment) -> tuple[str, str]:
    """Reason and sentence; an experiment that cannot be done leaves the rest of the route alone."""
    if choice.problem:
        return choice.reason, choice.problem
    if choice.router is Router.NONE:
        return "RouterCannot", (
            "spec.traffic.router is None, so nobody sends its requests apart; set it to Gateway"
        )
    if choice.router is not Router.GATEWAY and experiment.match.user_key_percent is not None:
        return "RouterCannot", (
            f"match.userKeyPercent cannot be done by router {choice.router}, which does not tell"
            " users apart; match a header or a cookie, or set spec.traffic.router to Gateway"
        )
    return "", ""


def _refused(choice: RouterChoice, reason: str, problem: str) -> RouterChoice:
    return RouterChoice(
        router=choice.router, reason=reason, message=choice.message, problem=problem
    )
