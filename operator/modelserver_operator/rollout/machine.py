"""How a rollout goes on: from the stored status and one look at the world to the next status.

    command → pause → what is asked for → what routers say → what was counted → failures → phase

Each part gets what those before it have made of the run; the first that changes its course ends the
decision. At most one phase is left, and no weight is moved twice, in one decision.
"""

from dataclasses import dataclass

from modelserver_operator.apis.rollout import Strategy
from modelserver_operator.apis.rollout_status import (
    MOST_FAILED_REVISIONS,
    FailedRevision,
    Rollout,
    RolloutPhase,
)
from modelserver_operator.apis.status import ModelServerStatus
from modelserver_operator.rollout import clocks, failures, phases, retreat, routing, swapping
from modelserver_operator.rollout.announcements import Loudness, Said, announced
from modelserver_operator.rollout.beginning import run_due
from modelserver_operator.rollout.commands import commanded
from modelserver_operator.rollout.effects import asked_revision, is_going_on, wanted_revision
from modelserver_operator.rollout.evidence import counted
from modelserver_operator.rollout.frozen import is_swap, rules_of
from modelserver_operator.rollout.pausing import is_stopped, paused_or_resumed
from modelserver_operator.rollout.reasons import BLAMELESS
from modelserver_operator.rollout.scene import Scene
from modelserver_operator.rollout.sight import Sight, Wish
from modelserver_operator.rollout.turning import followed, turned
from modelserver_operator.rollout.waking import wake_seconds

__all__ = ["Loudness", "Next", "Said", "decide"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """What is to be written; events are told after that.

    `status` differs from the stored one only in `rollout`, `servingRevision`, `servingSince`,
    `failedRevisions`, `lastCommand` and `rolledBackTo`.
    """

    status: ModelServerStatus
    events: tuple[Said, ...] = ()
    wake_seconds: float | None = None  # when to look again, if nothing happens before


def decide(status: ModelServerStatus, sight: Sight, wish: Wish) -> Next:
    """Pure: the same arguments give the same answer, and the status it gives may be refused."""
    if wish.is_being_deleted:
        return Next(status=status)
    asked = commanded(_without_old_wish(_mended(status, sight), wish), sight, wish)
    run = asked.rollout
    is_told = run is not None and run is not status.rollout
    after = _with_run(asked, run, sight) if run and is_told else _decided(asked, sight, wish)
    return Next(
        status=after,
        events=(*announced(status, after), *_unexamined(status, sight, wish)),
        wake_seconds=wake_seconds(after, sight, wish),
    )


def _mended(status: ModelServerStatus, sight: Sight) -> ModelServerStatus:
    """Where the clock was set back, nothing has served since a time that is yet to come."""
    since = clocks.believed(status.serving_since, sight.now)
    is_same = since == status.serving_since
    return status if is_same else status.model_copy(update={"serving_since": since})


def _without_old_wish(status: ModelServerStatus, wish: Wish) -> ModelServerStatus:
    """`rollback-to` holds until the spec asks for something else."""
    command = status.rolled_back_to
    if command is None or wish.target in {"", command.instead_of}:
        return status
    return status.model_copy(update={"rolled_back_to": None})


def _decided(status: ModelServerStatus, sight: Sight, wish: Wish) -> ModelServerStatus:
    run = status.rollout
    if run is None or not is_going_on(run):
        return _at_rest(status, sight, wish)
    rules = rules_of(run)
    scene = Scene(
        status=status,
        run=clocks.mended(run, rules, sight.now),
        rules=rules,
        sight=sight,
        wish=wish,
    )
    return _with_run(status, _next_run(scene), sight)


def _at_rest(status: ModelServerStatus, sight: Sight, wish: Wish) -> ModelServerStatus:
    if (run := run_due(status, sight, wish)) is not None:
        return status.model_copy(update={"rollout": run})
    return status.model_copy(update={"rollout": None}) if _is_forgotten(status, wish) else status


def _is_forgotten(status: ModelServerStatus, wish: Wish) -> bool:
    """A rollback is told for as long as what was rolled back is asked for."""
    run = status.rollout
    if run is None or run.phase is not RolloutPhase.ROLLED_BACK:
        return False
    is_failed = any(one.revision == run.to for one in status.failed_revisions)
    return not is_failed or asked_revision(status, wish.target) not in {"", run.to}


def _next_run(scene: Scene) -> Rollout:
    scene = scene.with_run(paused_or_resumed(scene))
    if (run := turned(scene)) is not None:
        return run
    if scene.wish.replicas == 0:
        return scene.run
    scene = scene.with_run(routing.noticed(scene))
    scene = scene.with_run(counted(scene))
    scene = scene.with_run(failures.noticed(scene))
    for ending in (failures.failed, failures.withdrawn, failures.overdue, followed):
        if (run := ending(scene)) is not None:
            return run
    return scene.run if is_stopped(scene.run) else _gone_on(scene)


def _gone_on(scene: Scene) -> Rollout:
    table = _SWAP if is_swap(scene.run) else _FORWARD
    return table[scene.run.phase](scene)


_FORWARD = {
    RolloutPhase.PREPARING: phases.preparing,
    RolloutPhase.PREFLIGHT: phases.preflight,
    RolloutPhase.SHADOWING: phases.shadowing,
    RolloutPhase.STEPPING: phases.stepping,
    RolloutPhase.ANALYZING: phases.analyzing,
    RolloutPhase.PROMOTING: phases.promoting,
    RolloutPhase.BAKING: phases.baking,
    RolloutPhase.SETTLING: phases.settling,
    RolloutPhase.ROLLING_BACK: retreat.rolling_back,
}
_SWAP = {
    RolloutPhase.PREPARING: swapping.preparing,
    RolloutPhase.DRAINING: swapping.draining,
    RolloutPhase.SWAPPING: swapping.swapping,
    RolloutPhase.PROMOTING: swapping.promoting,
    RolloutPhase.SETTLING: phases.settling,
    RolloutPhase.ROLLING_BACK: swapping.rolling_back,
}
_NEW_SERVES = {RolloutPhase.BAKING, RolloutPhase.SETTLING, RolloutPhase.SUCCEEDED}


def _with_run(status: ModelServerStatus, run: Rollout, sight: Sight) -> ModelServerStatus:
    changes: dict[str, object] = {"rollout": run}
    serving = _serving(status, run)
    if serving != status.serving_revision:
        now = clocks.timestamp(sight.now)
        changes |= {"serving_revision": serving, "serving_since": now}
    if run.phase is RolloutPhase.ROLLED_BACK and run.reason not in BLAMELESS:
        changes["failed_revisions"] = _failed_revisions(status, run, sight)
    return status.model_copy(update=changes)


def _serving(status: ModelServerStatus, run: Rollout) -> str:
    """The commit, and its way back: one field of the same write as the phase."""
    if run.phase in _NEW_SERVES:
        return run.to
    is_back = run.phase is RolloutPhase.ROLLED_BACK or (
        run.phase is RolloutPhase.ROLLING_BACK and run.settling_since is not None
    )
    return run.from_ if is_back else status.serving_revision


def _failed_revisions(
    status: ModelServerStatus, run: Rollout, sight: Sight
) -> tuple[FailedRevision, ...]:
    """The newest last; the oldest are forgotten first."""
    others = tuple(one for one in status.failed_revisions if one.revision != run.to)
    failed = FailedRevision(
        revision=run.to,
        reason=run.reason,
        at=clocks.timestamp(sight.now),
        evidence=run.evidence,
    )
    return (*others, failed)[-MOST_FAILED_REVISIONS:]


def _unexamined(status: ModelServerStatus, sight: Sight, wish: Wish) -> tuple[Said, ...]:
    """The first revision of all, when its first pod is ready: `rolling` lets it serve at once."""
    target = wanted_revision(status, wish.target)
    is_first = bool(target) and not status.serving_revision and sight.of(target).ready > 0
    if not is_first or wish.rollout.chosen is Strategy.ROLLING:
        return ()
    message = f"revision {target} serves unexamined, because nothing served before it"
    return (Said(type=Loudness.NORMAL, reason="ServesUnexamined", message=message),)
