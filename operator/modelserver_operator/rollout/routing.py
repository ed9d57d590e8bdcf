"""The route of a run: whether it is in force, and what is waited for while it is not."""

from modelserver_operator.apis.rollout import Strategy
from modelserver_operator.apis.rollout_status import Rollout, RolloutPhase
from modelserver_operator.apis.traffic import Router
from modelserver_operator.rollout import clocks
from modelserver_operator.rollout.reasons import Waiting
from modelserver_operator.rollout.scene import Scene

# Strategies that divide traffic or hold it, which needs somebody to do it.
_ROUTED = frozenset({Strategy.CANARY, Strategy.HOLD_AND_SWAP})

# Until a router's pods have started, and kubelets have brought the route to them.
USUAL_SECONDS = 30


def noticed(scene: Scene) -> Rollout:
    """What the routers say is written down; only then anything follows from it."""
    run = _refused_afterwards(scene) or _past_a_dead_router(scene)
    if run is not scene.run or run.weights.confirmed_at is not None or not _is_in_force(scene):
        return run
    now = clocks.timestamp(scene.now)
    weights = run.weights.model_copy(
        update={"confirmed": run.weights.intended, "confirmed_at": now}
    )
    is_entered = scene.wish.router is Router.GATEWAY and run.strategy is not Strategy.RECREATE
    return run.model_copy(
        update={
            "weights": weights,
            "route_version": scene.sight.route.version,
            "routed_at": (run.routed_at or now) if is_entered else None,
        }
    )


def _refused_afterwards(scene: Scene) -> Rollout | None:
    """What was in force is taken back: Istio looks at a route later, a Gateway may change."""
    run, is_refused = scene.run, bool(scene.sight.route.refusal) and scene.needs_route
    if not is_refused or run.phase not in _LED or run.weights.confirmed_at is None:
        return None
    weights = run.weights.model_copy(update={"confirmed_at": None, "observed_percent": ""})
    return run.model_copy(update={"weights": weights})


# Phases in which traffic goes where the route says, and further if all is well.
_LED = {
    RolloutPhase.SHADOWING,
    RolloutPhase.STEPPING,
    RolloutPhase.ANALYZING,
    RolloutPhase.PROMOTING,
}


def _is_in_force(scene: Scene) -> bool:
    if not scene.needs_route or scene.run.strategy is Strategy.RECREATE:
        return True
    if scene.wish.router is Router.GATEWAY and not is_router_ready(scene):
        return False
    return scene.sight.route.is_confirmed and not scene.sight.route.refusal


def _past_a_dead_router(scene: Scene) -> Rollout:
    """Without one ready router pod the Service leads past it, to what serves; and back later."""
    run = scene.run
    is_dead = scene.wish.router is Router.GATEWAY and scene.sight.router.ready == 0
    if not is_dead or run.routed_at is None or run.is_holding_requests:
        return run
    weights = run.weights.model_copy(update={"confirmed_at": None, "observed_percent": ""})
    return run.model_copy(update={"routed_at": None, "weights": weights})


def is_router_ready(scene: Scene) -> bool:
    router = scene.sight.router
    return 0 < router.wanted <= router.ready


def route_missing(scene: Scene) -> Rollout | None:
    """The run as it waits for its route; None if the route is in force."""
    if scene.wish.router is Router.NONE and scene.run.strategy in _ROUTED:
        return scene.held(
            Waiting.ROUTER_NOT_READY,
            f"strategy {scene.run.strategy} needs a router, but spec.traffic.router is None; set it"
            " to Gateway, or choose strategy BlueGreen, Rolling or Recreate",
        )
    if scene.run.strategy is Strategy.HOLD_AND_SWAP and scene.wish.router is not Router.GATEWAY:
        return scene.held(
            Waiting.ROUTER_NOT_READY,
            f"strategy HoldAndSwap needs the built-in router, which can hold requests, but"
            f" spec.traffic.router is {scene.wish.router}; set it to Gateway",
        )
    if scene.run.weights.confirmed_at is not None:
        return None
    return _unconfirmed(scene)


def _unconfirmed(scene: Scene) -> Rollout:
    run, router = scene.run, scene.sight.router
    if scene.sight.route.refusal:
        refusal = f"the route is not accepted: {scene.sight.route.refusal}"
        return scene.held(Waiting.ROUTE_NOT_ACCEPTED, refusal)
    if scene.wish.router is Router.GATEWAY and not is_router_ready(scene):
        found = f"{router.ready} of {router.wanted} are"
        message = f"the router's pods must be ready before traffic may move; {found}"
        return _waited(scene, Waiting.ROUTER_NOT_READY, message)
    message = (
        f"not every router has said yet that {run.weights.intended} % of the traffic goes to"
        f" revision {run.to}"
    )
    if scene.sight.route.waiting:
        message = f"{message}: {scene.sight.route.waiting}"
    return _waited(scene, Waiting.ROUTE_NOT_CONFIRMED, message)


def _waited(scene: Scene, reason: Waiting, message: str) -> Rollout:
    """Routers take a few seconds; only what takes longer is worth to be told as missing."""
    waited = clocks.seconds_since(scene.run.phase_since, scene.now)
    return scene.held(reason, message) if waited >= USUAL_SECONDS else scene.told(message)
