"""The conditions of a ModelServer: what each says, and when its transition time moves.

Ready          the revision that the spec asks for serves with all wanted replicas; Unknown while
               it starts; False with the diagnosis' code when something is wrong
Serving        the root Service leads to at least one ready pod, of whatever revision
Progressing    something is still on its way
ModelResolved  it is known exactly which files are served
Degraded       only present when so: it serves, but less than it should, or not as it should
Stalled        only present when so: what the spec asks for was rolled back, and will not come
               without a change of it or a command; kstatus knows this name and calls it Failed
ExperimentsRunning  only present where the spec has some: whether all of their requests go to their
               revisions
Scaling        only present where the spec has autoscaling: whether all that it asks for is looked
               at, by whom, how many pods that makes, and what keeps the HPA or KEDA from it
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from modelserver_operator.apis.experiment_status import ExperimentPhase, ExperimentStatus
from modelserver_operator.apis.rollout_status import FailedRevision, Rollout, RolloutPhase
from modelserver_operator.apis.scaling_status import ScalingStatus
from modelserver_operator.apis.status import (
    Artifact,
    ArtifactPhase,
    Condition,
    ConditionStatus,
    ConditionType,
    Diagnosis,
)
from modelserver_operator.plan.values import ResolutionState
from modelserver_operator.rollout.effects import is_going_on
from modelserver_operator.status.artifact import progress_in_words
from modelserver_operator.status.autoscalers import complaint_of
from modelserver_operator.status.diagnosis.codes import OF_OBJECTS
from modelserver_operator.status.explained import Explained
from modelserver_operator.status.situation import Situation
from modelserver_operator.status.timestamps import timestamp
from modelserver_operator.status.wording import counted, sentences, shortened

TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN


class Reason(Explained):
    """Why a condition is as it is; where something is wrong, the diagnosis' code stands instead."""

    SERVING = "Serving", "The Service leads to ready pods."
    SCALED_TO_ZERO = "ScaledToZero", "No replicas are wanted, and there are none."
    ASLEEP = (
        "Asleep",
        "Nobody has asked for long: there are no pods, and the next request starts one.",
    )
    SUSPENDED = "Suspended", "The spec asks for a pause: there are no pods."
    RESOLVING = "Resolving", "The hub is being asked which commit the branch or tag is."
    STARTING = "Starting", "Pods are being placed and started."
    FETCHING = "Fetching", "The model's files are being fetched."
    LOADING = "Loading", "The model is being loaded and warmed up."
    ROLLING_OUT = "RollingOut", "A new revision starts while the old one serves."
    SETTLING = "Settling", "The new revision serves; the old one is about to go."
    REPLICAS_UNAVAILABLE = "ReplicasUnavailable", "Replicas that were ready are not any more."
    NO_READY_REPLICA = "NoReadyReplica", "The Service leads to no ready pod."
    PAUSED = (
        "Paused",
        "The rollout waits for a command, or for `spec.rollout.paused` to be taken back.",
    )
    HOLDING = "Holding", "The rollout waits for something; nothing is known to be wrong."
    ROLLED_BACK = (
        "RolledBack",
        "The revision that the spec asks for has failed; another one serves.",
    )
    COMPLETE = "Complete", "Everything is as the spec asks."
    RUNNING = "Running", "The requests of every experiment go to its revision."
    WAITING = "Waiting", "The requests of an experiment go to the stable revision as yet."
    AUTOSCALER_FAILING = (
        "AutoscalerFailing",
        "The HPA or KEDA cannot measure or cannot scale; the pods stay as they are.",
    )
    RESOLVED = "Resolved", "It is known exactly which files are served."


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a condition says, without its bookkeeping."""

    type: ConditionType
    status: ConditionStatus
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the parts of the status say, of which conditions are the summary."""

    situation: Situation
    diagnosis: Diagnosis | None
    artifact: Artifact
    rollout: Rollout | None
    failed: FailedRevision | None = None  # what the spec asks for, if it was rolled back
    experiments: tuple[ExperimentStatus, ...] = ()
    scaling: ScalingStatus | None = None

    @property
    def run(self) -> Rollout | None:
        """The change of revision, if evidence decides it and it is going on."""
        return self.rollout if is_going_on(self.rollout) else None

    @property
    def concern(self) -> Diagnosis | None:
        """What is wrong with the server; a revision that is being examined is none of it yet."""
        diagnosis = self.diagnosis
        is_examined = diagnosis is not None and diagnosis.code not in OF_OBJECTS
        return None if self.run is not None and is_examined else diagnosis

    @property
    def has_lost_replicas(self) -> bool:
        """This very spec was complete before: so replicas are missing that were there."""
        if self.run is not None:
            return False
        situation = self.situation
        last = situation.server.status.condition(ConditionType.READY)
        if last is None or last.observed_generation != situation.server.metadata.generation:
            return False
        was_complete = last.status is TRUE or last.reason == Reason.REPLICAS_UNAVAILABLE
        return was_complete and not situation.is_complete


def conditions_of(report: Report) -> tuple[Condition, ...]:
    situation = report.situation
    statements = [_ready(report), _serving(report), _progressing(report), _model_resolved(report)]
    return merged(
        situation.server.status.conditions,
        [
            *statements,
            *_degraded(report),
            *_stalled(report),
            *_experiments(report),
            *_scaling(report),
        ],
        generation=situation.server.metadata.generation,
        now=situation.now,
    )


def merged(
    old: Sequence[Condition], statements: Sequence[Statement], *, generation: int, now: datetime
) -> tuple[Condition, ...]:
    """`last_transition_time` moves only when `status` does."""
    before = {condition.type: condition for condition in old}
    return tuple(_merged(before, statement, generation, now) for statement in statements)


def _merged(
    before: Mapping[str, Condition], statement: Statement, generation: int, now: datetime
) -> Condition:
    last = before.get(statement.type)
    is_same = last is not None and last.status is statement.status
    return Condition(
        type=statement.type.value,
        status=statement.status,
        observed_generation=generation,
        last_transition_time=last.last_transition_time if last and is_same else timestamp(now),
        reason=str(statement.reason),
        message=shortened(sentences(statement.message)),
    )


def _ready(report: Report) -> Statement:
    status, reason, message = _readiness(report)
    return Statement(type=ConditionType.READY, status=status, reason=reason, message=message)


def _readiness(report: Report) -> tuple[ConditionStatus, str, str]:
    situation, diagnosis = report.situation, report.concern
    if situation.is_suspended:
        return FALSE, Reason.SUSPENDED, "spec.suspend is true: no pods are wanted"
    if diagnosis is not None:
        return FALSE, diagnosis.code, sentences(replicas_in_words(situation), diagnosis.message)
    if situation.is_complete:
        return TRUE, *_completeness(report)
    if report.has_lost_replicas:
        return FALSE, Reason.REPLICAS_UNAVAILABLE, replicas_in_words(situation)
    return UNKNOWN, *_on_its_way(report)


def _completeness(report: Report) -> tuple[str, str]:
    situation = report.situation
    if situation.plan.sizing.is_asleep:
        return Reason.ASLEEP, "no pods are wanted: the next request starts one"
    if situation.wanted == 0:
        return Reason.SCALED_TO_ZERO, "spec.replicas is 0: no pods are wanted"
    return Reason.SERVING, sentences(replicas_in_words(situation), _failed(report))


def _on_its_way(report: Report) -> tuple[str, str]:
    """Reason and message while nothing is wrong and not everything is there."""
    situation, artifact = report.situation, report.artifact
    has_extra_models = bool(situation.server.spec.extra_models)
    progress = progress_in_words(artifact, has_extra_models=has_extra_models)
    words = sentences(replicas_in_words(situation), progress)
    if report.run is not None:
        return Reason.ROLLING_OUT, sentences(report.run.message, progress)
    if report.rollout is not None and report.rollout.phase is RolloutPhase.STARTING:
        rolling = f"revision {report.rollout.to} starts, {report.rollout.from_} serves"
        return Reason.ROLLING_OUT, sentences(rolling, words)
    if situation.plan.resolution.state is ResolutionState.RESOLVING:
        return Reason.RESOLVING, _resolving_in_words(situation)
    if situation.target_ready > 0 or artifact.phase is None:
        return Reason.STARTING, words
    return _REASONS_OF_PHASES[artifact.phase], words


_REASONS_OF_PHASES: Mapping[ArtifactPhase, Reason] = {
    ArtifactPhase.RESOLVING: Reason.RESOLVING,
    ArtifactPhase.FETCHING: Reason.FETCHING,
    ArtifactPhase.LOADING: Reason.LOADING,
    ArtifactPhase.READY: Reason.STARTING,
}


def _serving(report: Report) -> Statement:
    situation = report.situation
    revision = situation.plan.serving_revision
    ready = counted(situation.serving_ready, "ready replica")
    if situation.is_serving:
        message = f"revision {revision} serves with {ready}"
        return _serving_statement(TRUE, Reason.SERVING, message)
    return _serving_statement(FALSE, _why_not_serving(report), f"the Service leads to {ready}")


def _serving_statement(status: ConditionStatus, reason: str, message: str) -> Statement:
    return Statement(type=ConditionType.SERVING, status=status, reason=reason, message=message)


def _why_not_serving(report: Report) -> str:
    if report.situation.is_suspended:
        return Reason.SUSPENDED
    if report.situation.plan.sizing.is_asleep:
        return Reason.ASLEEP
    if report.situation.wanted == 0:
        return Reason.SCALED_TO_ZERO
    return report.diagnosis.code if report.diagnosis else Reason.NO_READY_REPLICA


def _progressing(report: Report) -> Statement:
    status, reason, message = _progress(report)
    return Statement(type=ConditionType.PROGRESSING, status=status, reason=reason, message=message)


def _progress(report: Report) -> tuple[ConditionStatus, str, str]:
    situation, rollout = report.situation, report.rollout
    if situation.is_suspended:
        return FALSE, Reason.SUSPENDED, f"{counted(situation.replicas, 'pod')} left"
    if report.concern is not None:
        return FALSE, report.concern.code, report.concern.message
    if report.run is not None:
        return TRUE, *_step_in_words(report.run)
    if rollout is not None and rollout.phase is RolloutPhase.SETTLING:
        message = f"revision {rollout.to} serves, the pods of other revisions are about to go"
        return TRUE, Reason.SETTLING, message
    if situation.is_complete:
        return FALSE, *_rest(report)
    return TRUE, *_on_its_way(report)


def _rest(report: Report) -> tuple[str, str]:
    if report.failed is not None:
        return Reason.ROLLED_BACK, _failed(report)
    return Reason.COMPLETE, replicas_in_words(report.situation)


def _step_in_words(run: Rollout) -> tuple[str, str]:
    """Whoever has stopped it comes first, then what it waits for."""
    if run.paused is not None:
        return Reason.PAUSED, sentences(f"paused by {run.paused.by}", run.message)
    if run.holding is not None:
        return Reason.HOLDING, run.holding.message
    return run.phase, run.message


def _failed(report: Report) -> str:
    if report.failed is None:
        return ""
    failed, serving = report.failed, report.situation.plan.serving_revision
    what = f"revision {failed.revision} was rolled back ({failed.reason}) and {serving} serves"
    return sentences(what, failed.evidence)


def _model_resolved(report: Report) -> Statement:
    status, reason, message = _resolution(report)
    kind = ConditionType.MODEL_RESOLVED
    return Statement(type=kind, status=status, reason=reason, message=message)


def _resolution(report: Report) -> tuple[ConditionStatus, str, str]:
    situation, diagnosis = report.situation, report.diagnosis
    resolution, uri = situation.plan.resolution, situation.server.spec.model.uri
    match resolution.state:
        case ResolutionState.RESOLVED if report.failed is not None:
            return TRUE, Reason.RESOLVED, f"revision {report.failed.revision} has {uri}"
        case ResolutionState.RESOLVED if resolution.commit:
            return TRUE, Reason.RESOLVED, f"{uri} is served at commit {resolution.commit}"
        case ResolutionState.RESOLVED:
            return TRUE, Reason.RESOLVED, f"{uri} is served as it is there"
        case ResolutionState.REFUSED:
            return FALSE, resolution.reason, resolution.message
        case ResolutionState.RESOLVING if diagnosis and diagnosis.code not in OF_OBJECTS:
            return FALSE, diagnosis.code, diagnosis.message
        case ResolutionState.RESOLVING:
            return UNKNOWN, Reason.RESOLVING, _resolving_in_words(situation)


def _resolving_in_words(situation: Situation) -> str:
    model = situation.server.spec.model
    name = model.revision or "main"
    waiting = situation.plan.resolution.message
    return waiting or f"asking the hub which commit {name} of {model.location} is"


def _degraded(report: Report) -> Iterator[Statement]:
    situation, diagnosis = report.situation, report.concern
    kind = ConditionType.DEGRADED
    serving = _serving(report).message
    if diagnosis and (situation.is_serving or diagnosis.code in OF_OBJECTS):
        message = sentences(serving, diagnosis.message)
        yield Statement(type=kind, status=TRUE, reason=diagnosis.code, message=message)
    elif situation.is_serving and not diagnosis and report.has_lost_replicas:
        message = replicas_in_words(situation)
        reason = Reason.REPLICAS_UNAVAILABLE
        yield Statement(type=kind, status=TRUE, reason=reason, message=message)
    elif report.failed is not None and report.run is None:
        yield Statement(type=kind, status=TRUE, reason=Reason.ROLLED_BACK, message=_failed(report))


def _stalled(report: Report) -> Iterator[Statement]:
    if report.failed is not None and report.run is None and not report.situation.is_suspended:
        kind, reason = ConditionType.STALLED, Reason.ROLLED_BACK
        yield Statement(type=kind, status=TRUE, reason=reason, message=_failed(report))


def _experiments(report: Report) -> Iterator[Statement]:
    """It says of each one that waits what it waits for."""
    if not report.experiments:
        return
    told = [f"{one.name}: {one.message}" for one in report.experiments if one.message]
    is_running = all(one.phase is ExperimentPhase.RUNNING for one in report.experiments)
    names = ", ".join(one.name for one in report.experiments)
    yield Statement(
        type=ConditionType.EXPERIMENTS_RUNNING,
        status=TRUE if is_running else FALSE,
        reason=Reason.RUNNING if is_running else Reason.WAITING,
        message=sentences(*told) if told else f"the routers send requests apart for {names}",
    )


def _scaling(report: Report) -> Iterator[Statement]:
    choice, scaling = report.situation.plan.sizing.choice, report.scaling
    if choice is None or scaling is None:
        return
    wanted = f"{scaling.engine} decides: {counted(scaling.desired, 'pod')} wanted"
    why = f"{wanted} ({scaling.reason})" if scaling.reason else wanted
    complaint = complaint_of(report.situation)
    under_way = report.situation.plan.scaling_message
    message = sentences(choice.problem or choice.message, complaint, why, under_way)
    reason = Reason.AUTOSCALER_FAILING if complaint and not choice.problem else choice.reason
    status = FALSE if choice.problem or complaint else TRUE
    kind = ConditionType.SCALING
    yield Statement(type=kind, status=status, reason=reason, message=message)


def replicas_in_words(situation: Situation) -> str:
    noun = "replica" if situation.wanted == 1 else "replicas"
    return f"{situation.target_ready} of {situation.wanted} {noun} ready"
