"""Checks of the server's objects: what cannot be written, and what the controllers cannot make."""

import re

from modelserver_operator.apis.status import Diagnosis
from modelserver_operator.plan.values import Refusal, ResolutionState
from modelserver_operator.resources.kinds import DEPLOYMENT, JOB
from modelserver_operator.status import pods
from modelserver_operator.status.diagnosis.codes import Code
from modelserver_operator.status.diagnosis.evidence import Evidence
from modelserver_operator.status.diagnosis.finding import finding
from modelserver_operator.status.wording import clean

BAD_REQUEST, FORBIDDEN, INVALID = 400, 403, 422

_QUOTA = re.compile(r"exceeded quota: ([^,\s]+)|failed quota: ([^:,\s]+)")
_POD_PREFIX = re.compile(r'^pods "[^"]*" is forbidden: ')
_MISSING_RIGHT = re.compile(r"cannot (get|list|watch|create|update|patch|delete) resource")


def name_conflict(evidence: Evidence) -> Diagnosis | None:
    if not evidence.conflicts:
        return None
    first = min(evidence.conflicts)
    names = ", ".join(f"{key.kind} {key.name}" for key in sorted(evidence.conflicts))
    return finding(
        Code.NAME_CONFLICT,
        f"{names} of namespace {evidence.server.namespace} must belong to this ModelServer,"
        " but somebody else's object has this name; it is left as it is",
        f"Delete {first.kind} {first.name} if it is not needed, or give the ModelServer another"
        " name.",
    )


def refused_model(evidence: Evidence) -> Diagnosis | None:
    resolution = evidence.resolution
    if resolution.state is not ResolutionState.REFUSED:
        return None
    hint = _HINTS_OF_REFUSALS.get(resolution.reason, "Correct what the message names in spec.")
    return finding(resolution.reason, clean(resolution.message), hint)


_HINTS_OF_REFUSALS: dict[str, str] = {
    Code.FILE_MODELS_NOT_ALLOWED: (
        "Write the model as hf://organisation/name or pvc://claim/path, or ask whoever runs the"
        " operator to set MODELSERVER_OPERATOR_ALLOW_FILE_MODELS=true, for development."
    ),
    Code.INVALID_POD_TEMPLATE: "Correct spec.podTemplate; the message says what is expected.",
}


def refused_write(evidence: Evidence) -> Diagnosis | None:
    return _refusal(evidence, evidence.refusals[0]) if evidence.refusals else None


def _refusal(evidence: Evidence, refusal: Refusal) -> Diagnosis:
    what, cause = f"{refusal.key.kind} {refusal.key.name}", clean(refusal.message)
    if _QUOTA.search(refusal.message):
        return _quota_exceeded(evidence, f"{what} was refused", cause)
    if refusal.status == FORBIDDEN and _MISSING_RIGHT.search(refusal.message):
        return finding(
            Code.PERMISSION_MISSING,
            f"The operator is not allowed to write {what}: {cause}",
            "Whoever runs the operator must apply the role of its manifests again.",
        )
    if _is_template(evidence, refusal):
        return finding(
            Code.INVALID_POD_TEMPLATE,
            f"The API server does not accept the pods of spec.podTemplate: {cause}",
            "Correct spec.podTemplate; the message names the field, below spec.template of a"
            f" {refusal.key.kind}.",
        )
    return finding(
        Code.CHILD_REFUSED,
        f"The API server does not accept {what}: {cause}",
        "Correct the field of spec that the message is about (spec.resources, spec.runtime), or the"
        " admission policy that it names.",
    )


def _is_template(evidence: Evidence, refusal: Refusal) -> bool:
    is_workload = refusal.key.kind in {DEPLOYMENT.kind, JOB.kind}
    is_malformed = refusal.status in {BAD_REQUEST, INVALID}
    template = evidence.server.spec.pod_template
    return is_workload and is_malformed and template != type(template)()


def refused_pods(evidence: Evidence) -> Diagnosis | None:
    """The Deployment says why its pods could not be created."""
    if evidence.deployment is None:
        return None
    failure = pods.condition_of(evidence.deployment, "ReplicaFailure")
    if failure.get("status") != "True":
        return None
    name = pods.name_of(evidence.deployment)
    message = str(failure.get("message", ""))
    cause = clean(_POD_PREFIX.sub("", message))
    if _QUOTA.search(message):
        return _quota_exceeded(evidence, f"Pods of {name} cannot be created", cause)
    return finding(
        Code.POD_REFUSED,
        f"Pods of {name} cannot be created: {cause}",
        "Change what the message names (spec.podTemplate, spec.resources,"
        " spec.availability.priorityClassName), or the rule of namespace"
        f" {evidence.server.namespace} that refuses it: Pod Security, LimitRange or webhook.",
    )


def _quota_exceeded(evidence: Evidence, what: str, cause: str) -> Diagnosis:
    match = _QUOTA.search(cause)
    quota = next(filter(None, match.groups()), "") if match else ""
    return finding(
        Code.QUOTA_EXCEEDED,
        f"{what}: {cause}",
        f"Raise ResourceQuota {quota} of namespace {evidence.server.namespace}, lower spec.replicas"
        " or spec.resources, or name in spec.resources what the quota asks for.",
    )


def stuck_job(evidence: Evidence) -> Diagnosis | None:
    if not evidence.stuck_job:
        return None
    namespace = evidence.server.namespace
    return finding(
        Code.POD_REFUSED,
        f"Job {evidence.stuck_job}, which resolves the model's revision, gets no pod: it is refused"
        " by a quota, Pod Security or another rule of the namespace",
        f"See by which: kubectl describe job {evidence.stuck_job} -n {namespace}; or set"
        " spec.model.revision to a commit, which needs no Job.",
    )
