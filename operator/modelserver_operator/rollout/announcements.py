"""Events of a rollout: what is different between two statuses, each thing said once."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from modelserver_operator.apis.rollout_status import Rollout, RolloutPhase
from modelserver_operator.apis.status import ModelServerStatus
from modelserver_operator.rollout.reasons import BLAMELESS


class Loudness(StrEnum):
    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """An Event about the rollout."""

    type: Loudness
    reason: str
    message: str


def announced(before: ModelServerStatus, after: ModelServerStatus) -> tuple[Said, ...]:
    return (*_command(before, after), *_run(before.rollout, after.rollout))


def _command(before: ModelServerStatus, after: ModelServerStatus) -> Iterator[Said]:
    command = after.last_command
    if command is not None and command != before.last_command:
        yield _normal(f"Command{command.result}", f"{command.token}: {command.message}")


def _run(before: Rollout | None, after: Rollout | None) -> Iterator[Said]:
    if after is None or not after.is_decided_by_evidence:
        return
    same = before if before is not None and _is_same(before, after) else None
    if before is not None and same is None and _is_running(before):
        yield _normal("RolloutSuperseded", f"revision {after.to} instead of {before.to}")
    if same is None:
        yield _normal("RolloutStarted", f"{after.strategy} from {after.from_} to {after.to}")
    elif same.phase is not after.phase or same.step_index != after.step_index:
        yield _phase(after)
    yield from _stops(same, after)


def _is_same(before: Rollout, after: Rollout) -> bool:
    return (before.to, before.start_time) == (after.to, after.start_time)


def _is_running(run: Rollout) -> bool:
    return run.is_decided_by_evidence and not run.is_over


def _phase(run: Rollout) -> Said:
    is_bad = run.phase in _BACKWARDS and run.reason not in BLAMELESS
    said = _warning if is_bad else _normal
    return said(f"Rollout{run.phase}", run.message)


_BACKWARDS = {RolloutPhase.ROLLING_BACK, RolloutPhase.ROLLED_BACK}


def _stops(before: Rollout | None, after: Rollout) -> Iterator[Said]:
    held = before.holding if before is not None else None
    if after.holding is not None and (held is None or held.reason != after.holding.reason):
        yield _normal(f"Holding{after.holding.reason}", after.holding.message)
    stopped = before.paused if before is not None else None
    if after.paused is not None and after.paused != stopped:
        yield _warning("RolloutPaused", f"by {after.paused.by}: {after.message}")
    if after.paused is None and stopped is not None and not after.is_over:
        yield _normal("RolloutResumed", f"in phase {after.phase}")


def _normal(reason: str, message: str) -> Said:
    return Said(type=Loudness.NORMAL, reason=reason, message=message)


def _warning(reason: str, message: str) -> Said:
    return Said(type=Loudness.WARNING, reason=reason, message=message)
