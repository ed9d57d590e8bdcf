"""What becomes of a run when something else is asked for."""

from modelserver_operator.apis.rollout_status import Rollout, RolloutPhase
from modelserver_operator.rollout.beginning import begun, swapped_to
from modelserver_operator.rollout.frozen import is_swap
from modelserver_operator.rollout.reasons import Back
from modelserver_operator.rollout.retreat import going_back
from modelserver_operator.rollout.scene import Scene

_SWAPPING = {RolloutPhase.DRAINING, RolloutPhase.SWAPPING}


def turned(scene: Scene) -> Rollout | None:
    """The run after another target was seen; None while it is still what is asked for.

    While the pods of the old revision settle the run is over in a few seconds anyway.
    """
    run, wanted = scene.run, scene.wanted
    if not wanted or wanted == run.to or run.phase is RolloutPhase.SETTLING:
        return None
    if run.phase is RolloutPhase.ROLLING_BACK:
        return None
    if wanted == run.from_:
        return going_back(scene, Back.REVERTED, f"revision {run.from_} is asked for again")
    return _superseded(scene)


def _superseded(scene: Scene) -> Rollout:
    run = scene.run
    if run.phase is RolloutPhase.BAKING:
        return begun(scene.status, scene.sight, scene.wish, before=run)
    if is_swap(run) and run.phase in _SWAPPING:
        return swapped_to(run, scene.status, scene.sight, scene.wish)
    if _has_sent_nothing(run):
        return begun(scene.status, scene.sight, scene.wish, before=run)
    return going_back(scene, Back.SUPERSEDED, f"revision {scene.wanted} is asked for instead")


def _has_sent_nothing(run: Rollout) -> bool:
    weights = run.weights
    return not (weights.intended or weights.confirmed or run.is_holding_requests)


def followed(scene: Scene) -> Rollout | None:
    """The next run, as soon as nothing is sent any more to the revision that gave way."""
    run = scene.run
    is_giving_way = run.phase is RolloutPhase.ROLLING_BACK and run.reason == Back.SUPERSEDED
    if not is_giving_way or run.settling_since is None:
        return None
    if scene.wanted in {"", run.from_, run.to}:
        return None
    return begun(scene.status, scene.sight, scene.wish, before=run)
