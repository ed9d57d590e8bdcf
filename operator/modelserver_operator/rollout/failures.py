"""What ends a run before its time, in the order in which it counts.

    pods that cannot run  >  evidence of a gate  >  no ready pod  >  a deadline

An incident that hits both revisions is none of these: the gates compare, and a stable revision that
is down is nothing to go back to.
"""

from modelserver_operator.apis.rollout import WHOLE, OnTimeout
from modelserver_operator.apis.rollout_status import Rollout, RolloutPhase
from modelserver_operator.rollout import clocks
from modelserver_operator.rollout.evidence import failing
from modelserver_operator.rollout.frozen import is_swap
from modelserver_operator.rollout.gates import GateName
from modelserver_operator.rollout.phases import entered_again, stable_missing
from modelserver_operator.rollout.reasons import (
    BACK_BY_GATE,
    Back,
    PausedBy,
    Waiting,
    shortened,
)
from modelserver_operator.rollout.retreat import going_back, going_back_for
from modelserver_operator.rollout.scene import Scene

# All pods of a revision that took over may restart at once; their readiness is asked every few
# seconds. Longer than this is no hiccup, and the old pods stand ready.
UNREADY_PATIENCE_SECONDS = 30

_ENDING = {RolloutPhase.SETTLING, RolloutPhase.ROLLING_BACK}
# Half of the traffic: a fleet that is half moved, without anybody looking, is the worst place.
_HALF = WHOLE // 2


def failed(scene: Scene) -> Rollout | None:
    """The run as it goes back, or waits since there is nowhere to go; None if nothing is wrong.

    A pause does not change this, except the one that its user asked for when a revision fails.
    """
    run = scene.run
    if run.phase in _ENDING or (run.paused and run.paused.by == PausedBy.FAILURE):
        return None
    reason, evidence = _reason(scene)
    if not evidence:
        return None
    is_nowhere_to_go = scene.is_stable_down and not is_swap(run)
    if is_nowhere_to_go:
        return stable_missing(scene)
    return going_back_for(scene, reason, evidence)


def _reason(scene: Scene) -> tuple[Back, str]:
    """The last evidence is "" if nothing is wrong."""
    if scene.new.hard_failure:
        return Back.PODS_FAILING, scene.new.hard_failure
    gate = failing(scene.run)
    if gate is not None and not scene.run.is_promoted:
        return BACK_BY_GATE[GateName(gate.name)], f"{gate.name}: {gate.message}"
    if _has_been_unready(scene):
        return Back.PODS_NOT_READY, _none_ready(scene)
    return Back.PODS_NOT_READY, ""


def _has_been_unready(scene: Scene) -> bool:
    run = scene.run
    waited = clocks.seconds_since(run.unready_since, scene.now)
    return run.unready_since is not None and waited >= UNREADY_PATIENCE_SECONDS


def _none_ready(scene: Scene) -> str:
    return f"no pod of revision {scene.run.to} is ready"


def noticed(scene: Scene) -> Rollout:
    """Since when the revision that has taken over has no ready pod."""
    run = scene.run
    is_unready = run.phase is RolloutPhase.BAKING and scene.new.ready == 0
    if is_unready is (run.unready_since is not None):
        return run
    return scene.changed(unready_since=clocks.timestamp(scene.now) if is_unready else None)


def withdrawn(scene: Scene) -> Rollout | None:
    """Traffic of a revision without a ready pod goes to stable until there is one again.

    That is no verdict: a node may have been drained. The step is entered again from its beginning.
    """
    run = scene.run
    is_carrying = run.phase in _CARRYING and run.weights.intended > 0
    if not is_carrying or is_swap(run) or scene.new.ready or scene.is_stable_down:
        return None
    if scene.old.ready < min(scene.pods_for(WHOLE), max(scene.old.wanted, 1)):
        return None
    again = scene.with_run(entered_again(scene, _none_ready(scene)))
    return again.weighted(0, again.run.message, phase_deadline=run.phase_deadline)


_CARRYING = {RolloutPhase.STEPPING, RolloutPhase.ANALYZING, RolloutPhase.PROMOTING}


def overdue(scene: Scene) -> Rollout | None:
    """The run as its rule for timeouts wants it; None if there is time left, or none is counted."""
    run = scene.run
    holding = run.holding
    is_asking = holding is not None and holding.reason == Waiting.AWAITING_APPROVAL
    if run.paused is not None or run.phase in _ENDING or is_asking:
        return None
    whole, phase = (clocks.has_passed(one, scene.now) for one in (run.deadline, run.phase_deadline))
    if not whole and not phase:
        return None
    what = "the whole rollout" if whole else f"phase {run.phase}"
    waited_for = holding.message if holding is not None else run.message
    evidence = f"the time for {what} is over: {waited_for}"
    if _goes_back(scene):
        return going_back(scene, Back.TIMEOUT, evidence)
    stopped = clocks.paused(run, PausedBy.DEADLINE, scene.now)
    return stopped.model_copy(update={"message": shortened(evidence)})


def _goes_back(scene: Scene) -> bool:
    choice = scene.rules.on_timeout
    if choice is not OnTimeout.AUTO:
        return choice is OnTimeout.ROLLBACK
    serves_nobody = is_swap(scene.run) and scene.run.phase is not RolloutPhase.PREPARING
    return serves_nobody or scene.run.weights.intended >= _HALF
