"""Pauses that the spec asks for, and what they leave going."""

from modelserver_operator.apis.rollout_status import Rollout, RolloutPhase
from modelserver_operator.rollout import clocks
from modelserver_operator.rollout.reasons import PausedBy
from modelserver_operator.rollout.scene import Scene

_ENDING = {RolloutPhase.SETTLING, RolloutPhase.ROLLING_BACK}
_BY_SPEC = {PausedBy.SPEC, PausedBy.SUSPEND}


def is_stopped(run: Rollout) -> bool:
    """Whether the phase must stay where it is. The way back and the end are never stopped."""
    return run.paused is not None and run.phase not in _ENDING


def paused_or_resumed(scene: Scene) -> Rollout:
    """As the spec is now. A pause by a command or a deadline is ended by a command only."""
    run, by = scene.run, _asked(scene)
    if run.paused is None:
        return _paused(scene, by) if by else run
    if run.paused.by not in _BY_SPEC or run.paused.by == by:
        return run
    going = clocks.resumed(run, scene.rules, scene.now)
    return _paused(scene.with_run(going), by) if by else going


def _asked(scene: Scene) -> PausedBy | None:
    if scene.wish.replicas == 0:
        return PausedBy.SUSPEND
    is_ending = scene.run.phase in _ENDING
    return PausedBy.SPEC if scene.wish.rollout.paused and not is_ending else None


def _paused(scene: Scene, by: PausedBy) -> Rollout:
    waits = "pods" if by is PausedBy.SUSPEND else "spec.rollout.paused to be false"
    stopped = clocks.paused(scene.run, by, scene.now)
    message = f"phase {scene.run.phase} waits for {waits}"
    return stopped.model_copy(update={"message": message})
