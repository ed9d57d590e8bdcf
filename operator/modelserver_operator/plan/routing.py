"""How requests come to the revisions of a run: the built-in router, and what it is told."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from modelserver_operator.apis.pods import Budget, NetworkPolicyMode
from modelserver_operator.apis.traffic import Router, Traffic
from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.config import OperatorConfig
from modelserver_operator.plan.looks import is_going
from modelserver_operator.plan.values import ChildKey, Manifest, Observed, PodAnnotation
from modelserver_operator.resources import labels, names
from modelserver_operator.resources.budget import make_router_budget
from modelserver_operator.resources.gateway_api import make_http_routes
from modelserver_operator.resources.istio import make_destination_rule, make_virtual_service
from modelserver_operator.resources.kinds import DEPLOYMENT
from modelserver_operator.resources.network_policy import make_routed_policy, make_router_policy
from modelserver_operator.resources.revision import Revision
from modelserver_operator.resources.route import WHOLE, Hold, Mirror, Route, RoutedExperiment
from modelserver_operator.resources.route_config import make_route_config_map, route_version
from modelserver_operator.resources.router import make_router, router_image
from modelserver_operator.rollout.effects import Effects

_LASTING = frozenset({Router.ISTIO, Router.GATEWAY_API})


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """`is_in_the_way`: the root Service leads to the built-in router, not to a revision's pods."""

    router: Router
    route: Route
    is_in_the_way: bool
    version: str = ""  # of the built-in router's route


def routing_of(server: ModelServer, effects: Effects, router: Router) -> Routing | None:
    """None where the run needs no router (yet, or any more)."""
    if not effects.is_router_wanted or router is Router.NONE:
        return None
    route = _route(server, effects)
    is_built_in = router is Router.GATEWAY
    return Routing(
        router=router,
        route=route,
        is_in_the_way=is_built_in and effects.is_root_routed,
        version=route_version(server.name, route) if is_built_in else "",
    )


def resting_routing(
    server: ModelServer, serving: str, live: Iterable[str], router: Router
) -> Routing | None:
    """Without a run: who comes through a Gateway needs a route all the time.

    The built-in router is not in the way then, and the Service itself leads to what serves.
    """
    if router not in _LASTING or not serving:
        return None
    return Routing(router=router, route=_calm_route(server, serving, live), is_in_the_way=False)


def _calm_route(server: ModelServer, serving: str, live: Iterable[str]) -> Route:
    traffic = server.spec.traffic or Traffic()
    return Route(
        stable=serving,
        revisions=tuple(sorted({serving, *live})),
        weights={serving: WHOLE},
        timeout_seconds=server.spec.runtime.request_timeout_seconds,
        hosts=traffic.hosts,
        gateways=traffic.gateways,
    )


def with_experiments(
    server: ModelServer,
    routing: Routing | None,
    *,
    router: Router,
    serving: str,
    live: Iterable[str],
    experiments: tuple[RoutedExperiment, ...],
) -> Routing | None:
    """`routing` without them, or None where it would need none; their revisions are `live`.

    The built-in router stays in the way as long as the stored status says that they need it.
    """
    traffic = server.status.experiment_traffic
    is_asked_for = bool(server.spec.traffic and server.spec.traffic.experiments)
    is_left = traffic is not None and bool(traffic.routed_at or traffic.settling_since)
    if not is_asked_for and not is_left and not experiments:
        return routing
    routing = routing or _calm_routing(server, serving, router)
    if routing is None:
        return None
    route = routing.route
    names = tuple(sorted({*route.revisions, *live}))
    route = replace(route, revisions=names, experiments=experiments)
    is_built_in = routing.router is Router.GATEWAY
    is_routed = is_built_in and traffic is not None and traffic.routed_at is not None
    return Routing(
        router=routing.router,
        route=route,
        is_in_the_way=routing.is_in_the_way or is_routed,
        version=route_version(server.name, route) if is_built_in else "",
    )


def _calm_routing(server: ModelServer, serving: str, router: Router) -> Routing | None:
    """Of the built-in router while no revision is rolled out."""
    if router is not Router.GATEWAY or not serving:
        return None
    return Routing(router=router, route=_calm_route(server, serving, ()), is_in_the_way=False)


def _route(server: ModelServer, effects: Effects) -> Route:
    traffic = server.spec.traffic or Traffic()
    return Route(
        stable=effects.stable,
        revisions=tuple(sorted({*effects.replicas, *effects.weights})),
        weights=effects.weights,
        timeout_seconds=server.spec.runtime.request_timeout_seconds,
        sticky=traffic.sticky,
        hosts=traffic.hosts,
        gateways=traffic.gateways,
        mirror=_mirror(effects),
        hold=Hold() if effects.is_holding_requests else None,
    )


def _mirror(effects: Effects) -> Mirror | None:
    shadow = effects.mirror
    if shadow is None:
        return None
    return Mirror(
        revision=effects.mirrored,
        percent=shadow.percent,
        baseline_percent=shadow.baseline_percent,
        compare=shadow.compare,
        min_cosine_percent=shadow.min_cosine_percent,
    )


def routing_children(
    server: ModelServer,
    routing: Routing,
    runtime: Revision,
    observed: Observed,
    config: OperatorConfig,
) -> Iterator[Manifest]:
    """`runtime` is the revision whose image the built-in router runs, if it has one that can."""
    match routing.router:
        case Router.ISTIO:
            yield make_virtual_service(server, routing.route, config)
            for revision in routing.route.revisions:
                yield make_destination_rule(server, revision, config)
        case Router.GATEWAY_API:
            yield from make_http_routes(server, routing.route)
        case _:
            yield from _built_in(server, routing, runtime, observed, config)


def _built_in(
    server: ModelServer,
    routing: Routing,
    runtime: Revision,
    observed: Observed,
    config: OperatorConfig,
) -> Iterator[Manifest]:
    deployment = observed.children.get(ChildKey(DEPLOYMENT.kind, names.router(server.name)))
    image = router_image(server, runtime, config.runtime_image, deployment)
    yield make_route_config_map(server, routing.route)
    yield make_router(server, image)
    if server.spec.availability.pdb is Budget.AUTO:
        yield make_router_budget(server)
    if server.spec.network.policy is not NetworkPolicyMode.NONE:
        yield make_router_policy(server, config)
        yield make_routed_policy(server)


def is_router(pod: Manifest) -> bool:
    return bool(pod["metadata"].get("labels", {}).get(labels.ROLE) == labels.ROUTER)


def route_annotations(observed: Observed, routing: Routing | None) -> Iterator[PodAnnotation]:
    """So that every kubelet renews the route in its pod at once, not within a minute."""
    if routing is None or not routing.version:
        return
    for pod in observed.pods:
        annotations = pod["metadata"].get("annotations", {})
        if not is_router(pod) or is_going(pod):
            continue
        if annotations.get(labels.ROUTE_VERSION) != routing.version:
            yield PodAnnotation(
                pod=pod["metadata"]["name"],
                uid=pod["metadata"]["uid"],
                annotation=labels.ROUTE_VERSION,
                value=routing.version,
            )
