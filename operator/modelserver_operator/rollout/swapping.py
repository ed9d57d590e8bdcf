"""A run without room for both revisions: the old pods end before the new ones start.

    Recreate       Draining → Swapping → Settling
    HoldAndSwap    Preparing → Draining → Swapping → Promoting → Settling, requests held meanwhile

There is no time in which both could be compared, and none to bake: the old pods are gone. Held
requests are let go when pods are ready; the router waits until it can reach them from its node.
"""

from modelserver_operator.apis.rollout import WHOLE, Strategy
from modelserver_operator.apis.rollout_status import Rollout, RolloutPhase
from modelserver_operator.rollout import clocks
from modelserver_operator.rollout.phases import pods_missing, settling_begun
from modelserver_operator.rollout.reasons import Waiting
from modelserver_operator.rollout.retreat import closed_when_settled
from modelserver_operator.rollout.routing import route_missing
from modelserver_operator.rollout.scene import Scene


def preparing(scene: Scene) -> Rollout:
    """The router is in the way of every node's requests before one of them is held."""
    if waiting := route_missing(scene):
        return waiting
    routed = clocks.seconds_since(scene.run.routed_at, scene.now)
    if routed < scene.wish.settle_seconds:
        return scene.told("requests come through the router from now on")
    held = scene.weighted(0, "", is_holding_requests=True)
    message = f"requests are held; the pods of revision {scene.run.from_} end"
    return scene.with_run(held).entered(RolloutPhase.DRAINING, message)


def draining(scene: Scene) -> Rollout:
    if waiting := route_missing(scene):
        return waiting
    if left := _others(scene):
        return scene.told(f"{left} pods of other revisions still end")
    message = f"the pods of revision {scene.run.to} start"
    return scene.entered(RolloutPhase.SWAPPING, message)


def _others(scene: Scene) -> int:
    seen = scene.sight.revisions.items()
    return sum(one.exists for name, one in seen if name != scene.run.to)


def swapping(scene: Scene) -> Rollout:
    if waiting := pods_missing(scene, WHOLE):
        return waiting
    if not scene.new.is_settled:
        return scene.told(f"the pods of revision {scene.run.to} are ready and settle")
    if scene.run.strategy is Strategy.RECREATE:
        return settling_begun(scene)
    released = scene.weighted(WHOLE, "", is_holding_requests=False)
    message = f"held requests go to revision {scene.run.to}"
    return scene.with_run(released).entered(RolloutPhase.PROMOTING, message)


def promoting(scene: Scene) -> Rollout:
    return route_missing(scene) or settling_begun(scene)


def rolling_back(scene: Scene) -> Rollout:
    """The same backwards: the new pods end, the old ones start, requests are let go."""
    run = scene.run
    if run.settling_since is not None:
        return closed_when_settled(scene)
    if not run.is_restoring:
        return _emptied(scene)
    if scene.old.ready < scene.wish.replicas:
        return scene.held(
            Waiting.STABLE_NOT_READY,
            f"{scene.old.ready} of {scene.wish.replicas} pods of revision {run.from_} are ready"
            " again",
        )
    if run.is_holding_requests:
        released = f"held requests go to revision {run.from_}"
        return scene.weighted(0, released, is_holding_requests=False)
    if run.weights.confirmed_at is None and run.routed_at is not None:
        return route_missing(scene) or run
    return scene.changed(
        settling_since=clocks.timestamp(scene.now),
        holding=None,
        message=f"revision {run.from_} serves again",
    )


def _emptied(scene: Scene) -> Rollout:
    """Until the new pods are gone there is no room for the old ones."""
    run = scene.run
    if run.routed_at is not None and (waiting := route_missing(scene)):
        return waiting
    if scene.new.exists:
        return scene.told(f"{scene.new.exists} pods of revision {run.to} still end")
    return scene.changed(
        is_restoring=True, holding=None, message=f"the pods of revision {run.from_} start again"
    )
