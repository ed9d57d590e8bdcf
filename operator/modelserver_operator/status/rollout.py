"""The change of revision that is going on: read from what serves, is asked for, and exists."""

from modelserver_operator.apis.rollout_status import Rollout, RolloutPhase
from modelserver_operator.resources.kinds import DEPLOYMENT
from modelserver_operator.rollout.clocks import believed
from modelserver_operator.status import pods
from modelserver_operator.status.situation import Situation
from modelserver_operator.status.timestamps import timestamp


def rollout_of(situation: Situation) -> Rollout | None:
    plan = situation.plan
    if not situation.target:
        return None
    if situation.is_rolling:
        return _rollout(situation, plan.serving_revision, RolloutPhase.STARTING)
    others = _other_revisions(situation)
    if not others or not plan.serving_revision:
        return None
    return _rollout(situation, _came_from(situation, others), RolloutPhase.SETTLING)


def _other_revisions(situation: Situation) -> list[str]:
    """Revisions whose Deployment is still there, but for those of experiments."""
    revisions = {pods.revision_of(one) for one in situation.kept_children(DEPLOYMENT.kind)}
    return sorted(revisions - {"", situation.target} - situation.plan.tried.keys())


def _came_from(situation: Situation, others: list[str]) -> str:
    stored = situation.server.status.rollout
    if stored is not None and stored.from_ in others:
        return stored.from_
    served = situation.server.status.serving_revision
    return served if served in others else others[0]


def _rollout(situation: Situation, previous: str, phase: RolloutPhase) -> Rollout:
    stored, target = situation.server.status.rollout, situation.target
    goes_on = stored is not None and stored.to == target
    start = believed(stored.start_time, situation.now) if stored is not None and goes_on else None
    begun = start or timestamp(situation.now)
    return Rollout.model_validate(
        {"from": previous, "to": target, "phase": phase, "start_time": begun}
    )
