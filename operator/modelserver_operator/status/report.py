"""The status of a ModelServer, whole, as it is written."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from modelserver_operator.apis.status import (
    ConditionStatus,
    ConditionType,
    Diagnosis,
    Effective,
    ModelServerStatus,
)
from modelserver_operator.apis.v1alpha1 import ModelServer, parse_status
from modelserver_operator.errors import InvalidResource
from modelserver_operator.plan.values import Manifest, Observed, Plan, Refusal
from modelserver_operator.resources import labels
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
from modelserver_operator.status.rollout import rollout_of
from modelserver_operator.status.situation import Situation
from modelserver_operator.status.timestamps import timestamp


def status_of(
    server: ModelServer,
    observed: Observed,
    plan: Plan,
    now: datetime,
    refusals: Sequence[Refusal] = (),
) -> Manifest:
    """The whole `status`; equal to the stored one when there is nothing new to say.

    `observed` is what the plan was made from; `refusals` are the plan's writes that were not
    accepted.
    """
    situation = Situation(
        server=server, observed=observed, plan=plan, now=now, refusals=tuple(refusals)
    )
    report = Report(
        situation=situation,
        diagnosis=diagnosis_of(situation),
        artifact=artifact_of(situation),
        rollout=rollout_of(situation),
    )
    return _as_written(_status(report))


def _status(report: Report) -> ModelServerStatus:
    situation = report.situation
    server, plan = situation.server, situation.plan
    return ModelServerStatus(
        observed_generation=server.metadata.generation,
        replicas=situation.replicas,
        ready_replicas=situation.serving_ready,
        updated_replicas=situation.updated,
        selector=f"{labels.SERVER}={server.name}",
        url=f"http://{server.name}.{server.namespace}.svc",
        conditions=conditions_of(report),
        serving_revision=_serving_revision(situation),
        serving_since=_serving_since(situation),
        target_revision=plan.target_revision,
        rollout=report.rollout,
        artifact=report.artifact,
        effective=_effective(situation),
        diagnosis=report.diagnosis,
    )


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
    return stored.serving_since if is_same else timestamp(situation.now)


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
        run = status.rollout.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        dumped["rollout"] = run
    return _without_empty(dumped)


def _without_empty(fields: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in fields.items():
        if isinstance(value, dict):
            value = _without_empty(value)  # noqa: PLW2901  the same field, pruned
        if value not in (None, "", {}, []):
            kept[key] = value
    return kept
