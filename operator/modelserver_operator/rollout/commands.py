"""Commands by annotation: `<verb>/<revision>/<token>`, each done once and answered in the status.

A command names the revision that it is about, so that one that comes late hits no other.
"""

from collections.abc import Callable
from dataclasses import dataclass

from modelserver_operator.apis.rollout_status import (
    CommandResult,
    LastCommand,
    RolledBackTo,
    Rollout,
    RolloutPhase,
)
from modelserver_operator.apis.status import ModelServerStatus
from modelserver_operator.rollout import clocks
from modelserver_operator.rollout.effects import is_going_on
from modelserver_operator.rollout.frozen import is_swap, rules_of
from modelserver_operator.rollout.phases import (
    after_preflight,
    after_shadowing,
    after_step,
    next_step,
    settling_begun,
)
from modelserver_operator.rollout.reasons import Back, PausedBy, Waiting, shortened
from modelserver_operator.rollout.retreat import going_back
from modelserver_operator.rollout.scene import Scene
from modelserver_operator.rollout.sight import Sight, Wish

VERBS = ("pause", "resume", "promote-step", "promote-full", "abort", "retry", "rollback-to")
_PARTS = 3
_LONGEST = 253  # of what the status keeps of an annotation


class Refused(Exception):
    """The sentence that the user gets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    verb: str
    revision: str


def commanded(status: ModelServerStatus, sight: Sight, wish: Wish) -> ModelServerStatus:
    """The status after the annotation was obeyed or refused; the same if it is an old one."""
    text = wish.command[:_LONGEST]
    last = status.last_command
    if not text or (last is not None and last.token == text):
        return status
    try:
        after, message = _obeyed(_parsed(text), status, sight, wish)
    except Refused as refusal:
        return _answered(status, text, CommandResult.REFUSED, str(refusal))
    return _answered(after, text, CommandResult.DONE, message)


def _answered(
    status: ModelServerStatus, text: str, result: CommandResult, message: str
) -> ModelServerStatus:
    answer = LastCommand(token=text, result=result, message=shortened(message))
    return status.model_copy(update={"last_command": answer})


def _parsed(text: str) -> Command:
    parts = text.split("/", _PARTS - 1)
    if len(parts) != _PARTS or not all(parts):
        raise Refused(
            f"a command is <verb>/<revision>/<token>, for example abort/d4e5f6a7/1; found {text}"
        )
    verb, revision, _ = parts
    if verb not in VERBS:
        raise Refused(f"there is no command {verb}; there are {', '.join(VERBS)}")
    return Command(verb=verb, revision=revision)


def _obeyed(
    command: Command, status: ModelServerStatus, sight: Sight, wish: Wish
) -> tuple[ModelServerStatus, str]:
    if command.verb == "retry":
        return _retried(command, status)
    if command.verb == "rollback-to":
        return _rolled_back_to(command, status, wish)
    scene = _scene(command, status, sight, wish)
    run, message = _ON_RUNS[command.verb](scene)
    return status.model_copy(update={"rollout": run}), message


def _scene(command: Command, status: ModelServerStatus, sight: Sight, wish: Wish) -> Scene:
    run = status.rollout
    if run is None or not is_going_on(run):
        raise Refused(f"there is no rollout that could be told to {command.verb}")
    if command.revision != run.to:
        raise Refused(
            f"revision {run.to} is being rolled out, and the command is about {command.revision}"
        )
    return Scene(status=status, run=run, rules=rules_of(run), sight=sight, wish=wish)


def _retried(command: Command, status: ModelServerStatus) -> tuple[ModelServerStatus, str]:
    rest = tuple(one for one in status.failed_revisions if one.revision != command.revision)
    if len(rest) == len(status.failed_revisions):
        raise Refused(f"revision {command.revision} is not among status.failedRevisions")
    if is_going_on(status.rollout):
        raise Refused("a rollout is going on; retry when it has ended, or abort it")
    after = status.model_copy(update={"failed_revisions": rest})
    return after, f"revision {command.revision} is tried again"


def _rolled_back_to(
    command: Command, status: ModelServerStatus, wish: Wish
) -> tuple[ModelServerStatus, str]:
    revision = command.revision
    if revision not in wish.known_revisions:
        known = ", ".join(sorted(wish.known_revisions)) or "none"
        raise Refused(f"revision {revision} is not kept; kept are {known}")
    if not wish.target:
        raise Refused("the model of the spec is still being resolved; try again when it is known")
    is_own = revision == wish.target
    target = None if is_own else RolledBackTo(revision=revision, instead_of=wish.target)
    rest = tuple(one for one in status.failed_revisions if one.revision != revision)
    after = status.model_copy(update={"rolled_back_to": target, "failed_revisions": rest})
    return after, f"revision {revision} is wanted until the spec asks for another one"


type Change = tuple[Rollout, str]


def _pause(scene: Scene) -> Change:
    run = scene.run
    if run.phase in _ENDING:
        raise Refused(f"phase {run.phase} cannot be paused; it ends by itself")
    if run.paused is not None and run.paused.by in {PausedBy.COMMAND, PausedBy.FAILURE}:
        return run, "it is paused already"
    paused = clocks.paused(_running(scene), PausedBy.COMMAND, scene.now)
    return paused, f"paused in phase {run.phase}"


def _resume(scene: Scene) -> Change:
    run = scene.run
    if run.paused is None:
        return run, "it is not paused"
    if run.paused.by in {PausedBy.SPEC, PausedBy.SUSPEND}:
        field = "spec.rollout.paused" if run.paused.by == PausedBy.SPEC else "spec.suspend"
        raise Refused(f"it is paused by {field}; set that to false")
    return _running(scene), f"it goes on in phase {run.phase}"


def _running(scene: Scene) -> Rollout:
    """Not paused. After a failure what was counted is forgotten, or it would fail again at once."""
    run = scene.run
    has_failed = run.paused is not None and run.paused.by == PausedBy.FAILURE
    going = clocks.resumed(run, scene.rules, scene.now)
    forgotten = {"gates": (), "readings": (), "copies": (), "reason": "", "evidence": ""}
    return going.model_copy(update=forgotten) if has_failed else going


def _promote_step(scene: Scene) -> Change:
    before = scene.run.phase
    scene = scene.with_run(_not_paused(scene))
    run = scene.run
    if is_swap(run):
        raise Refused(f"strategy {run.strategy} has no steps")
    match before:
        case RolloutPhase.PREFLIGHT:
            return after_preflight(scene), "the golden set is passed over"
        case RolloutPhase.SHADOWING:
            return after_shadowing(scene), "no more requests are copied"
        case RolloutPhase.STEPPING if _awaits_approval(scene):
            return _approved(scene), "the last step is approved"
        case RolloutPhase.ANALYZING:
            return after_step(scene), f"step {run.step_index + 1} is over"
        case RolloutPhase.BAKING:
            return settling_begun(scene), f"revision {run.from_} is kept no longer"
        case _:
            pass
    raise Refused(f"phase {before} is no step: {run.message}")


def _awaits_approval(scene: Scene) -> bool:
    holding = scene.run.holding
    return holding is not None and holding.reason == Waiting.AWAITING_APPROVAL


def _approved(scene: Scene) -> Rollout:
    """The time that the approval took is nobody's fault."""
    waited = scene.run.holding.since if scene.run.holding else clocks.timestamp(scene.now)
    run = clocks.moved_on(scene.run, scene.rules, since=waited, now=scene.now)
    return run.model_copy(update={"is_approved": True, "holding": None})


def _promote_full(scene: Scene) -> Change:
    scene = scene.with_run(_not_paused(scene))
    run = scene.changed(is_promoted=True, is_approved=True, reason="", evidence="")
    scene = scene.with_run(run)
    if run.phase in _ENDING:
        raise Refused(f"phase {run.phase} cannot be promoted: {run.message}")
    message = f"revision {run.to} takes over without further comparison"
    if is_swap(run) or run.phase in {RolloutPhase.PREPARING, RolloutPhase.PROMOTING}:
        return run, message
    if run.phase is RolloutPhase.BAKING:
        return settling_begun(scene), message
    if run.phase is RolloutPhase.SHADOWING:
        return after_shadowing(scene), message
    return next_step(scene, len(scene.rules.run_steps) - 1), message


def _not_paused(scene: Scene) -> Rollout:
    paused = scene.run.paused
    if paused is not None and paused.by in {PausedBy.SPEC, PausedBy.SUSPEND}:
        raise Refused(f"it is paused by the {paused.by}; end that first")
    return _running(scene)


def _abort(scene: Scene) -> Change:
    run = scene.run
    if run.phase is RolloutPhase.ROLLING_BACK:
        return run, "traffic goes back already"
    return going_back(scene, Back.ABORTED, "by command"), f"traffic goes back to {run.from_}"


_ENDING = {RolloutPhase.SETTLING, RolloutPhase.ROLLING_BACK}
_ON_RUNS: dict[str, Callable[[Scene], Change]] = {
    "pause": _pause,
    "resume": _resume,
    "promote-step": _promote_step,
    "promote-full": _promote_full,
    "abort": _abort,
}
