"""The number of pods: of the operator's own engine, or what another one has made of it."""

from dataclasses import dataclass

from modelserver_operator.apis.scaling_status import ScalingStatus
from modelserver_operator.scaling import window
from modelserver_operator.scaling.bounds import Bounds
from modelserver_operator.scaling.demand import Demand, demand_of
from modelserver_operator.scaling.history import growth_limit
from modelserver_operator.scaling.samples import Samples, values_of
from modelserver_operator.scaling.sight import ScalingSight, ScalingWish
from modelserver_operator.scaling.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything that a decision looks at. `before` is what was stored; `bounds` hold now."""

    before: ScalingStatus
    sight: ScalingSight
    wish: ScalingWish
    bounds: Bounds

    @property
    def current(self) -> int:
        """Where the decision begins: one pod after a sleep."""
        return max(1, self.before.desired)

    @property
    def awake(self) -> Bounds:
        return Bounds(least=max(1, self.bounds.least), most=self.bounds.most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    desired: int
    reason: str
    window: Window = ()


def awake_decision(scene: Scene) -> Decision:
    """One pod or more."""
    sight = scene.sight
    if scene.wish.choice.is_outside:
        # Its own bounds are told to it; what it is at is what there is, and zero is our own doing.
        live = max(1, sight.ownership.replicas)
        return Decision(desired=live, reason=scene.wish.choice.engine)
    if sight.ownership.replicas > 0 and not sight.ownership.is_ours:
        return _followed(scene)
    if sight.readings is None or sight.ready == 0:
        return _held(scene)
    return _by_demand(scene)


def _followed(scene: Scene) -> Decision:
    """Somebody else has scaled: that is where the operator begins, and it lowers nothing."""
    live = scene.sight.ownership.replicas
    desired = max(live, scene.current, scene.awake.least)
    delay = scene.wish.scaling.scale_down_delay_seconds
    noted = window.noted(scene.before.window, desired, now=scene.sight.now, delay_seconds=delay)
    return Decision(desired=desired, reason="takes over", window=noted)


def _held(scene: Scene) -> Decision:
    """Nobody was asked, or nobody can answer yet: only the bounds count."""
    desired = _kept_while_rolling(scene, scene.awake.clamp(scene.current))
    return Decision(desired=desired, reason="bounds", window=scene.before.window)


def _by_demand(scene: Scene) -> Decision:
    current, now = scene.current, scene.sight.now
    demand = demand_of(scene.wish.scaling, _samples(scene), current=current)
    asked = current if demand.replicas is None else demand.replicas
    delay = scene.wish.scaling.scale_down_delay_seconds
    # Without a past, the number that is there is the past: who scaled before had reasons.
    past = scene.before.window or window.noted((), current, now=now, delay_seconds=delay)
    noted = window.noted(past, asked, now=now, delay_seconds=delay)
    desired = _kept_while_rolling(scene, scene.awake.clamp(_paced(scene, asked, noted)))
    return Decision(desired=desired, reason=_reason(demand, asked, desired), window=noted)


def _kept_while_rolling(scene: Scene, desired: int) -> int:
    return max(desired, scene.current) if scene.wish.is_rolling else desired


def _paced(scene: Scene, asked: int, noted: Window) -> int:
    """Up at once, but not by more than an HPA would; down when less has been enough for long."""
    if asked > scene.current:
        return min(asked, growth_limit(scene.before.history, scene.current, scene.sight.now))
    return min(scene.current, window.largest(noted))


def _reason(demand: Demand, asked: int, desired: int) -> str:
    return demand.reason if asked == desired else f"{demand.reason} wants {asked}"


def _samples(scene: Scene) -> Samples:
    sight = scene.sight
    readings = {one.pod: one for one in sight.readings or ()}
    requests = scene.wish.requests
    values = [
        values_of(readings[pod], sight.before.get(pod), requests) if pod in readings else {}
        for pod in sight.pods
    ]
    return Samples(pods=values, queries=sight.queries)
