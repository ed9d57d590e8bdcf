"""The way back: traffic returns to the revision that served before, then the new one's pods go.

Stable gets its pods before it gets its traffic back, unless the new revision is dead. Nothing stops
a way back: not a pause, not a missing metric, not a route that was never confirmed.
"""

from typing import Any

from modelserver_operator.apis.rollout import WHOLE, CapacityPolicy, OnFailure, Strategy
from modelserver_operator.apis.rollout_status import Rollout, RolloutPhase
from modelserver_operator.apis.traffic import Router
from modelserver_operator.rollout import clocks
from modelserver_operator.rollout.frozen import is_swap
from modelserver_operator.rollout.reasons import (
    Back,
    PausedBy,
    Waiting,
    as_evidence,
)
from modelserver_operator.rollout.routing import route_missing
from modelserver_operator.rollout.scene import Scene

# Stable had all of its pods when the run began. If some of them are away now, it is better to go
# back to those that are there than to leave traffic with a revision that fails.
CAPACITY_PATIENCE_SECONDS = 60


def going_back_for(scene: Scene, reason: Back, evidence: str) -> Rollout:
    """The new revision has failed: its user has said what happens then."""
    if scene.rules.on_failure is OnFailure.ROLLBACK:
        return going_back(scene, reason, evidence)
    run = clocks.paused(scene.run, PausedBy.FAILURE, scene.now)
    said = as_evidence(evidence)
    message = f"revision {run.to} has failed and spec.rollout.onFailure is Pause: {said}"
    return run.model_copy(update={"reason": reason, "evidence": said, "message": message})


def going_back(scene: Scene, reason: Back, evidence: str) -> Rollout:
    """From wherever the run is."""
    said = as_evidence(evidence)
    changes: dict[str, Any] = {
        "reason": reason,
        "evidence": said,
        "paused": None,
        "mirror_percent": 0,
        "settling_since": None,
        "unready_since": None,
        "step_entered_at": None,
        "phase_deadline": None,
        "deadline": None,
    }
    message = f"traffic goes back to revision {scene.run.from_}: {said}"
    back = scene.with_run(scene.entered(RolloutPhase.ROLLING_BACK, message, **changes))
    return _swap_back(scene, back) if is_swap(scene.run) else back.run


def _swap_back(before: Scene, back: Scene) -> Rollout:
    """Requests are held again if the new pods already had them; nothing is to be held if the old
    ones are all still there.
    """  # noqa: D205  one sentence
    old_is_whole = before.run.phase is RolloutPhase.PREPARING or (
        before.run.phase is RolloutPhase.DRAINING and before.run.weights.confirmed_at is None
    )
    if old_is_whole:
        return back.weighted(0, back.run.message, is_restoring=True, is_holding_requests=False)
    is_held = before.run.is_holding_requests and before.run.weights.confirmed_at is not None
    if is_held or before.run.strategy is Strategy.RECREATE:
        return back.run
    return back.weighted(0, back.run.message, is_holding_requests=True)


def rolling_back(scene: Scene) -> Rollout:
    run = scene.run
    if run.settling_since is not None:
        return closed_when_settled(scene)
    if run.weights.intended:
        return _lowered(scene)
    if not _is_free_of_traffic(scene):
        return route_missing(scene) or run
    return scene.changed(
        settling_since=clocks.timestamp(scene.now),
        holding=None,
        message=f"revision {run.from_} has all traffic; the pods of {run.to} end",
    )


def _lowered(scene: Scene) -> Rollout:
    """Stable's pods first, unless there is nothing to lose."""
    run = scene.run
    if scene.new.ready == 0:
        return scene.weighted(0, f"the route is to give nothing to revision {run.to}")
    weight = scene.next_weight
    needed = scene.pods_for(WHOLE - weight)
    if scene.old.ready < needed and not _is_patience_over(scene):
        return scene.held(
            Waiting.STABLE_NOT_READY,
            f"traffic goes back to revision {run.from_} when its pods are ready;"
            f" {scene.old.ready} of {needed} are",
        )
    return scene.weighted(weight, f"the route is to give {weight} % to revision {run.to}")


def _is_patience_over(scene: Scene) -> bool:
    """With Shift stable's pods have to be started first, which takes as long as it takes."""
    shifts = scene.policy is CapacityPolicy.SHIFT
    patience = scene.rules.prepare_deadline_seconds if shifts else CAPACITY_PATIENCE_SECONDS
    waited = clocks.seconds_since(scene.run.phase_since, scene.now)
    return scene.old.ready > 0 and waited >= patience


def _is_free_of_traffic(scene: Scene) -> bool:
    """Every router has said so, or none was ever told otherwise, or none is in the way."""
    run = scene.run
    is_passed_by = scene.wish.router is Router.GATEWAY and run.routed_at is None
    is_known = run.weights.confirmed_at is not None or run.weights.confirmed == 0
    return is_known or is_passed_by


def closed_when_settled(scene: Scene) -> Rollout:
    """Of swaps too: every node must have learnt where the Service leads."""
    run = scene.run
    if clocks.seconds_since(run.settling_since, scene.now) < scene.wish.settle_seconds:
        return run
    return scene.closed(
        RolloutPhase.ROLLED_BACK, f"revision {run.from_} serves; {run.to}: {run.evidence}"
    )
