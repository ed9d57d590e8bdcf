"""The status of a ModelServer, whole, as it is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelserver_operator.apis.experiment_status import ExperimentTraffic
from modelserver_operator.apis.rollout_status import FailedRevision, Rollout
from modelserver_operator.apis.scaling_status import ScalingStatus
from modelserver_operator.apis.status import (
    ConditionStatus,
    ConditionType,
    Diagnosis,
    Effective,
    ModelServerStatus,
)
from modelserver_operator.apis.v1alpha1 import ModelServer, parse_status
from modelserver_operator.errors import InvalidResource
from modelserver_operator.plan.arrangement import is_examined
from modelserver_operator.plan.values import Manifest, Observed, Plan, Refusal
from modelserver_operator.resources import labels
from modelserver_operator.rollout.clocks import believed
from modelserver_operator.rollout.effects import is_going_on, is_governed
from modelserver_operator.rollout.machine import Next, Said, decide
from modelserver_operator.status.artifact import artifact_of
from modelserver_operator.status.conditions import (
    Report,
    Statement,
    conditions_of,
    merged,
)
from modelserver_operator.status.diagnosis.chain import diagnosis_of
from modelserver_operator.status.diagnosis.codes import Code
from modelserver_operator.status.diagnosis.finding import finding
from modelserver_operator.status.experiments import experiments_of
from modelserver_operator.status.rollout import rollout_of
from modelserver_operator.status.scaling import scaling_of, what_is_scaled
from modelserver_operator.status.sight import sight_of
from modelserver_operator.status.situation import Situation
from modelserver_operator.status.timestamps import timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """`said` are Events about a rollout, to be told when the status has been written.

    `is_decision`: the status asks for other children than the stored one, or may do so; they are
    made when it is looked at again.
    """

    status: Manifest
    said: tuple[Said, ...] = ()
    wake_seconds: float | None = None
    is_decision: bool = False
    holder_port: int | None = None  # of the gateway, which no other server may have


def status_of(
    server: ModelServer,
    observed: Observed,
    plan: Plan,
    now: datetime,
    refusals: Sequence[Refusal] = (),
) -> Manifest:
    """The whole `status`; equal to the stored one when there is nothing new to say."""
    return reported(server, observed, plan, now, refusals).status


def reported(
    server: ModelServer,
    observed: Observed,
    plan: Plan,
    now: datetime,
    refusals: Sequence[Refusal] = (),
) -> Reported:
    """`refusals` are the plan's writes that were not accepted."""
    situation = Situation(
        server=server, observed=observed, plan=plan, now=now, refusals=tuple(refusals)
    )
    decided = _decided(situation)
    experiments = experiments_of(situation)
    scaled = scaling_of(situation)
    report = Report(
        situation=situation,
        diagnosis=diagnosis_of(situation),
        artifact=artifact_of(situation),
        rollout=_rollout(situation, decided),
        failed=_failed(situation, decided.status),
        experiments=experiments.entries,
        scaling=scaled.status,
    )
    status = _status(report, decided.status, experiments.traffic)
    return Reported(
        status=_as_written(status),
        said=decided.events,
        wake_seconds=_soonest(decided.wake_seconds, experiments.wake_seconds, scaled.wake_seconds),
        is_decision=(
            _what_lives(decided.status) != _what_lives(server.status)
            or _what_is_tried(status) != _what_is_tried(server.status)
            or what_is_scaled(status.scaling) != what_is_scaled(server.status.scaling)
        ),
        holder_port=status.scaling.holder_port if status.scaling else None,
    )


def _soonest(*delays: float | None) -> float | None:
    return min((delay for delay in delays if delay is not None), default=None)


def _decided(situation: Situation) -> Next:
    """What becomes of the rollout; where evidence decides nothing, all of it stays as it is."""
    server, wish = situation.server, situation.plan.wish
    if wish is None or not is_examined(server, wish):
        return Next(status=server.status)
    return decide(server.status, sight_of(situation, wish), wish)


def _rollout(situation: Situation, decided: Next) -> Rollout | None:
    """Of a run that evidence decides; otherwise what is seen, or how the last run ended."""
    run = decided.status.rollout
    if run is not None and is_going_on(run):
        return run
    if run is not None and run.is_decided_by_evidence and _is_about(run, situation):
        return run
    return rollout_of(situation)


def _is_about(run: Rollout, situation: Situation) -> bool:
    """It ends just now, or it ended with what serves, and nothing else is on its way."""
    if is_going_on(situation.server.status.rollout):
        return True
    return situation.target in {run.from_, run.to} and not situation.is_rolling


def _failed(situation: Situation, status: ModelServerStatus) -> FailedRevision | None:
    """What the spec asks for, if that has failed and something else serves in its place."""
    target = situation.plan.target_revision
    found = next((one for one in status.failed_revisions if one.revision == target), None)
    return found if status.serving_revision != target else None


# What changes with every count and sentence, and never asks for other children.
_EVIDENCE = {
    "gates",
    "readings",
    "copies",
    "comparison",
    "counted_at",
    "last_decision",
    "message",
    "evidence",
    "edges",
    "holding",
    "step_stable_requests",
    "unready_since",
}


def _what_lives(status: ModelServerStatus) -> tuple[object, ...]:
    run = status.rollout
    state = run.model_dump(exclude=_EVIDENCE) if run is not None and is_going_on(run) else None
    return state, status.serving_revision, status.rolled_back_to, status.failed_revisions


def _what_is_tried(status: ModelServerStatus) -> tuple[object, ...]:
    traffic = status.experiment_traffic or ExperimentTraffic()
    routed = [(one.name, one.revision) for one in status.experiments if one.is_routed]
    leaving = [one.revision for one in traffic.leaving]
    return routed, leaving, traffic.routed_at, traffic.settling_since


def _status(
    report: Report, decided: ModelServerStatus, traffic: ExperimentTraffic | None
) -> ModelServerStatus:
    situation = report.situation
    server, plan = situation.server, situation.plan
    serving, since = _serving(situation, decided)
    return ModelServerStatus(
        observed_generation=server.metadata.generation,
        replicas=situation.replicas,
        ready_replicas=situation.serving_ready,
        updated_replicas=situation.updated,
        selector=_selector(server),
        url=f"http://{server.name}.{server.namespace}.svc",
        conditions=conditions_of(report),
        serving_revision=serving,
        serving_since=since,
        target_revision=plan.target_revision,
        rollout=report.rollout,
        failed_revisions=decided.failed_revisions,
        last_command=decided.last_command,
        rolled_back_to=decided.rolled_back_to,
        experiments=report.experiments,
        experiment_traffic=traffic,
        scaling=report.scaling,
        artifact=report.artifact,
        effective=_effective(situation),
        diagnosis=report.diagnosis,
    )


def _selector(server: ModelServer) -> str:
    """Of pods that serve: where there may be a router, it is none of them."""
    has_router = server.spec.rollout is not None or server.spec.traffic is not None
    of_revisions = f",{labels.REVISION}" if has_router else ""
    return f"{labels.SERVER}={server.name}{of_revisions}"


def _serving(situation: Situation, decided: ModelServerStatus) -> tuple[str, str | None]:
    """Which revision, and since when: by decision where evidence decides, otherwise as planned."""
    wish = situation.plan.wish
    if wish is not None and is_governed(situation.server.status, wish):
        return decided.serving_revision, decided.serving_since
    return _serving_revision(situation), _serving_since(situation)


def _serving_revision(situation: Situation) -> str:
    """What the root Service leads to, once a pod behind it has been ready.

    The planner lets go at once of a revision that has never served anybody.
    """
    has_served = situation.server.status.serving_revision or situation.serving_ready
    return situation.plan.serving_revision if has_served else ""


def _serving_since(situation: Situation) -> str | None:
    """When the root Service moved to its revision; the old pods go some seconds later."""
    stored, serving = situation.server.status, _serving_revision(situation)
    if not serving:
        return None
    is_same = stored.serving_revision == serving and stored.serving_since is not None
    return believed(stored.serving_since, situation.now) if is_same else timestamp(situation.now)


def _effective(situation: Situation) -> Effective:
    server, plan = situation.server, situation.plan
    return Effective(
        image=plan.image,
        image_reason=_image_reason(situation),
        served_name=server.served_name,
        network_policy=server.spec.network.policy.value,
    )


def _image_reason(situation: Situation) -> str:
    if not situation.plan.image:
        return ""
    if situation.server.spec.runtime.image:
        return "spec.runtime.image"
    return f"the operator's default when revision {situation.plan.target_revision} was made"


def status_of_invalid(manifest: Manifest, failure: InvalidResource, now: datetime) -> Manifest:
    """For a stored object that `parse_model_server` refuses.

    Its children are left as they are, so what was known of them stays; but nothing of it is
    vouched for.
    """
    stored = parse_status(manifest)
    generation = int(manifest["metadata"].get("generation", 0))
    diagnosis = _invalid(failure)
    conditions = merged(stored.conditions, _unknown(diagnosis), generation=generation, now=now)
    changes = {
        "observed_generation": generation,
        "conditions": conditions,
        "diagnosis": diagnosis,
    }
    return _as_written(stored.model_copy(update=changes))


def _invalid(failure: InvalidResource) -> Diagnosis:
    return finding(
        Code.INVALID_RESOURCE,
        f"This operator cannot read the ModelServer: {failure}",
        f"Correct {failure.field}, or install the operator that belongs to the installed CRD. What"
        " runs is left as it is.",
    )


def _unknown(diagnosis: Diagnosis) -> list[Statement]:
    unknown = {
        ConditionType.READY: ConditionStatus.FALSE,
        ConditionType.SERVING: ConditionStatus.UNKNOWN,
        ConditionType.PROGRESSING: ConditionStatus.FALSE,
        ConditionType.MODEL_RESOLVED: ConditionStatus.UNKNOWN,
    }
    return [
        Statement(type=kind, status=status, reason=diagnosis.code, message=diagnosis.message)
        for kind, status in unknown.items()
    ]


def _as_written(status: ModelServerStatus) -> Manifest:
    """Without what is not known: an absent field reads better than an empty one."""
    dumped: Manifest = status.model_dump(mode="json", by_alias=True)
    if status.rollout is not None:
        dumped["rollout"] = _run_as_written(status.rollout)
    dumped["experiments"] = [
        one.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        for one in status.experiments
    ]
    if (traffic := status.experiment_traffic) is not None:
        dumped["experimentTraffic"] = traffic.model_dump(
            mode="json", by_alias=True, exclude_defaults=True
        )
    if status.scaling is not None:
        dumped["scaling"] = _scaling_as_written(status.scaling)
    return _without_empty(dumped)


def _scaling_as_written(scaling: ScalingStatus) -> Manifest:
    """0 pods are told, and where they began and ended."""
    dumped: Manifest = scaling.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    if scaling.zero is not None:
        dumped["zero"] = scaling.zero.model_dump(mode="json", by_alias=True)
    return dumped


def _run_as_written(run: Rollout) -> Manifest:
    """Without the many fields that mean nothing yet; weights are told even where they are 0."""
    dumped: Manifest = run.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    if run.is_decided_by_evidence:
        dumped["weights"] = run.weights.model_dump(mode="json", by_alias=True)
    return dumped


def _without_empty(fields: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in fields.items():
        if isinstance(value, dict):
            value = _without_empty(value)  # noqa: PLW2901  the same field, pruned
        if value not in (None, "", {}, []):
            kept[key] = value
    return kept
