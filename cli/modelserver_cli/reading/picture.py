"""One picture of a server: its revisions, and the rollout between them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from pydantic.alias_generators import to_camel

from modelserver_cli.reading.history import history_of
from modelserver_cli.reading.scaling import ScalingPicture, scaling_of
from modelserver_operator.apis.experiment_status import ExperimentStatus, Track
from modelserver_operator.apis.rollout_status import Rollout, RolloutPhase
from modelserver_operator.apis.status import ConditionType, ModelServerStatus
from modelserver_operator.apis.v1alpha1 import parse_status
from modelserver_operator.resources import labels
from modelserver_operator.rollout.clocks import seconds_since, seconds_until
from modelserver_operator.rollout.effects import is_going_on
from modelserver_operator.rollout.frozen import rules_of

type Manifest = dict[str, Any]

WHOLE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionPicture:
    revision: str
    state: str
    weight_percent: int
    ready: int
    wanted: int
    model: str
    commit: str
    requests: int | None = None
    errors_percent: str = ""
    slow_percent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePicture:
    name: str
    outcome: str
    requests: int
    bad: int
    stable_requests: int
    stable_bad: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPicture:
    """`next_step_seconds` is when the phase may end at the earliest; None where time decides not.

    `steps` are the weights of the new revision, of which `step` (from 1) is entered or held.
    """

    source: str
    target: str
    strategy: str
    phase: str
    is_over: bool
    running_seconds: float
    message: str
    steps: tuple[int, ...] = ()
    step: int = 0
    held_seconds: float | None = None
    next_step_seconds: float | None = None
    deadline_seconds: float | None = None
    intended_percent: int = 0
    is_confirmed: bool = False
    observed_percent: str = ""
    mirror_percent: int = 0
    is_holding_requests: bool = False
    holding: str = ""
    paused: str = ""
    preflight: str = ""
    gates: tuple[GatePicture, ...] = ()
    decision: str = ""
    decided_seconds_ago: float | None = None
    evidence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackPicture:
    requests: int
    errors_percent: str
    p50_milliseconds: int | None
    p90_milliseconds: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentPicture:
    """`stable` is what the stable revision answered in the same time."""

    name: str
    phase: str
    revision: str
    ready: int
    wanted: int
    message: str
    counted_seconds: float | None
    answered: TrackPicture
    stable: TrackPicture


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    name: str
    namespace: str
    url: str
    ready: str
    ready_message: str
    is_current: bool
    """Whether the operator has seen the spec as it is now."""
    revisions: tuple[RevisionPicture, ...]
    run: RunPicture | None = None
    experiments: tuple[ExperimentPicture, ...] = ()
    scaling: ScalingPicture | None = None
    diagnosis: str = ""
    hint: str = ""
    failed: tuple[str, ...] = ()
    last_command: str = ""

    def as_json(self) -> Any:
        return _camel(asdict(self))


def picture_of(
    manifest: Manifest, records: Iterable[Manifest], deployments: Iterable[Manifest], now: datetime
) -> Picture:
    status = parse_status(manifest)
    ready = status.condition(ConditionType.READY)
    diagnosis = status.diagnosis
    metadata, command = manifest["metadata"], status.last_command
    return Picture(
        name=metadata["name"],
        namespace=metadata["namespace"],
        url=status.url,
        ready=str(ready.status) if ready else "Unknown",
        ready_message=f"{ready.reason}: {ready.message}" if ready else "no operator has looked yet",
        is_current=status.observed_generation == metadata.get("generation"),
        revisions=tuple(_revisions(status, records, deployments)),
        run=_run(status.rollout, now) if status.rollout else None,
        experiments=tuple(_experiment(one, now) for one in status.experiments),
        scaling=scaling_of(status, now),
        diagnosis=f"{diagnosis.code}: {diagnosis.message}" if diagnosis else "",
        hint=diagnosis.hint if diagnosis else "",
        failed=tuple(
            f"{one.revision} {one.reason} at {one.at}: {one.evidence}"
            for one in status.failed_revisions
        ),
        last_command=f"{command.token}: {command.result}: {command.message}" if command else "",
    )


def _revisions(
    status: ModelServerStatus, records: Iterable[Manifest], deployments: Iterable[Manifest]
) -> Iterator[RevisionPicture]:
    """Those that have pods, or traffic; what is only kept is history."""
    weights = weights_of(status)
    by_revision = {_revision_of(one): one for one in deployments}
    metrics = {one.revision: one for one in (status.rollout.comparison if status.rollout else ())}
    for entry in history_of(records, status):
        deployment = by_revision.get(entry.revision)
        if deployment is None and entry.revision not in weights:
            continue
        found = metrics.get(entry.revision)
        yield RevisionPicture(
            revision=entry.revision,
            state=entry.state,
            weight_percent=weights.get(entry.revision, 0),
            ready=(deployment or {}).get("status", {}).get("readyReplicas", 0),
            wanted=(deployment or {}).get("spec", {}).get("replicas", 0),
            model=entry.model,
            commit=entry.commit,
            requests=found.requests if found else None,
            errors_percent=found.errors_percent if found else "",
            slow_percent=found.slow_percent if found else "",
        )


def _revision_of(manifest: Manifest) -> str:
    return str((manifest["metadata"].get("labels") or {}).get(labels.REVISION, ""))


def weights_of(status: ModelServerStatus) -> dict[str, int]:
    run = status.rollout
    if run is not None and is_going_on(run):
        new = run.weights.intended
        return {run.from_: WHOLE - new, run.to: new}
    return {status.serving_revision: WHOLE} if status.serving_revision else {}


def _experiment(one: ExperimentStatus, now: datetime) -> ExperimentPicture:
    return ExperimentPicture(
        name=one.name,
        phase=str(one.phase),
        revision=one.revision,
        ready=one.ready_replicas,
        wanted=one.replicas,
        message=one.message,
        counted_seconds=seconds_since(one.since, now) if one.since else None,
        answered=_track(one.answered),
        stable=_track(one.stable),
    )


def _track(track: Track) -> TrackPicture:
    return TrackPicture(
        requests=track.requests,
        errors_percent=track.errors_percent,
        p50_milliseconds=track.p50_milliseconds,
        p90_milliseconds=track.p90_milliseconds,
    )


def _run(run: Rollout, now: datetime) -> RunPicture:
    steps = tuple(one.weight_percent for one in rules_of(run).run_steps) if _has_steps(run) else ()
    decision, preflight = run.last_decision, run.preflight
    return RunPicture(
        source=run.from_,
        target=run.to,
        strategy=str(run.strategy or "Rolling"),
        phase=str(run.phase),
        is_over=run.is_over,
        running_seconds=seconds_since(run.start_time, now),
        message=run.message,
        steps=steps,
        step=min(run.step_index + 1, len(steps)),
        held_seconds=seconds_since(run.step_entered_at, now) if run.step_entered_at else None,
        next_step_seconds=_next_step_seconds(run, now),
        deadline_seconds=seconds_until(run.phase_deadline, now),
        intended_percent=run.weights.intended,
        is_confirmed=run.weights.confirmed_at is not None,
        observed_percent=run.weights.observed_percent,
        mirror_percent=run.mirror_percent,
        is_holding_requests=run.is_holding_requests,
        holding=f"{run.holding.reason}: {run.holding.message}" if run.holding else "",
        paused=f"by {run.paused.by} since {run.paused.since}" if run.paused else "",
        preflight=_preflight(preflight.passed, preflight.failed, preflight.message)
        if preflight
        else "",
        gates=tuple(_gates(run)),
        decision=f"{decision.verdict}: {decision.message}" if decision else "",
        decided_seconds_ago=seconds_since(decision.at, now) if decision else None,
        evidence=f"{run.reason}: {run.evidence}" if run.reason else "",
    )


def _has_steps(run: Rollout) -> bool:
    return run.is_decided_by_evidence and run.spec is not None


def _next_step_seconds(run: Rollout, now: datetime) -> float | None:
    """By time alone; the evidence may take longer."""
    if not _has_steps(run) or run.paused is not None:
        return None
    rules = rules_of(run)
    match run.phase:
        case RolloutPhase.ANALYZING:
            held, since = rules.run_steps[run.step_index].hold_seconds, run.step_entered_at
        case RolloutPhase.SHADOWING if rules.shadow is not None:
            held, since = rules.shadow.hold_seconds, run.weights.confirmed_at
        case RolloutPhase.BAKING:
            held, since = rules.bake_seconds, run.phase_since
        case _:
            return None
    return max(held - seconds_since(since, now), 0.0) if since else None


def _preflight(passed: int, failed: int, message: str) -> str:
    counted = f"{passed} of {passed + failed} cases passed"
    return f"{counted}; {message}" if message else counted


def _gates(run: Rollout) -> Iterator[GatePicture]:
    for gate in run.gates:
        yield GatePicture(
            name=gate.name,
            outcome=str(gate.outcome),
            requests=gate.requests,
            bad=gate.bad,
            stable_requests=gate.stable_requests,
            stable_bad=gate.stable_bad,
            message=gate.message,
        )


def _camel(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {to_camel(key): _camel(one) for key, one in value.items()}
    return [_camel(one) for one in value] if isinstance(value, list | tuple) else value
