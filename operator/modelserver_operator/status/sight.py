"""What is seen of the two revisions of a rollout, of the route and of its routers."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from modelserver_operator.apis.status import Diagnosis
from modelserver_operator.apis.traffic import Router
from modelserver_operator.plan.asking import ready_routers
from modelserver_operator.plan.looks import deployment_of, is_complete
from modelserver_operator.plan.values import ChildKey, Manifest
from modelserver_operator.resources import names
from modelserver_operator.resources.kinds import (
    DEPLOYMENT,
    DESTINATION_RULE,
    HTTP_ROUTE,
    VIRTUAL_SERVICE,
    Kind,
)
from modelserver_operator.resources.route_acceptance import (
    Acceptance,
    AcceptanceState,
    acceptance_of,
    istio_acceptance_of,
)
from modelserver_operator.rollout.clocks import is_count_due
from modelserver_operator.rollout.effects import is_going_on
from modelserver_operator.rollout.frozen import rules_of
from modelserver_operator.rollout.sight import (
    RevisionSight,
    RouterSight,
    RouteSight,
    Sight,
    Wish,
)
from modelserver_operator.status import pods
from modelserver_operator.status.counting import Counted, counted_of
from modelserver_operator.status.diagnosis.chain import diagnosis_of
from modelserver_operator.status.diagnosis.codes import Code
from modelserver_operator.status.situation import Situation

# Others need a cluster with more room, or less in it, and pass then.
NO_ROOM = frozenset({Code.INSUFFICIENT_RESOURCE, Code.UNSCHEDULABLE, Code.QUOTA_EXCEEDED})

# What a pod of this revision will meet again, however often it is started. Not in here is what
# somebody else may be about to mend: a hub that does not answer, a Secret that is not there yet.
HARD = frozenset(
    {
        Code.INVALID_POD_TEMPLATE,
        Code.CHILD_REFUSED,
        Code.POD_REFUSED,
        Code.IMAGE_PULL,
        Code.INVALID_CONFIGURATION,
        Code.ARTIFACT_AUTH,
        Code.ARTIFACT_REFUSED,
        Code.ARTIFACT_NOT_FOUND,
        Code.ARTIFACT_CORRUPT,
        Code.UNSUPPORTED_MODEL,
    }
)
# One of these may be chance; the second time it is not.
CRASHES = frozenset({Code.OUT_OF_MEMORY, Code.LOAD_TIMEOUT, Code.RUNTIME_CRASH, Code.DISK_FULL})
CRASHES_OF_A_FAILURE = 2


def sight_of(situation: Situation, wish: Wish) -> Sight:
    run = situation.server.status.rollout
    counted = Counted()
    if run is not None and is_going_on(run) and is_count_due(run, rules_of(run), situation.now):
        counted = counted_of(run, wish, situation.plan, situation.observed)
    return Sight(
        now=situation.now,
        revisions={one: _revision(situation, one) for one in _named(situation)},
        route=route_of(situation, wish),
        router=routers_of(situation),
        answers=counted.answers,
        metrics_unavailable=counted.unavailable,
        checks=situation.observed.checks,
        preflight=situation.plan.preflight.outcome,
        preflight_failure=situation.plan.preflight.failure,
    )


def _named(situation: Situation) -> set[str]:
    run, plan = situation.server.status.rollout, situation.plan
    of_run = {run.from_, run.to} if run is not None else set()
    return {*plan.replicas, *of_run, plan.wanted_revision, plan.serving_revision} - {""}


def _revision(situation: Situation, revision: str) -> RevisionSight:
    observed, name = situation.observed, situation.server.name
    deployment = deployment_of(observed, name, revision)
    wanted = int((deployment or {}).get("spec", {}).get("replicas", 0))
    of_revision = situation.pods_of(revision)
    diagnosis = _diagnosis(situation, revision)
    return RevisionSight(
        wanted=wanted,
        exists=sum(pods.phase_of(pod) not in _OVER for pod in of_revision),
        ready=sum(map(pods.is_ready, of_revision)),
        is_settled=_is_settled(deployment, wanted),
        hard_failure=_hard_failure(diagnosis, of_revision),
        unschedulable=_sentence(diagnosis, NO_ROOM),
    )


_OVER = {pods.FAILED, pods.SUCCEEDED}


def _is_settled(deployment: Manifest | None, wanted: int) -> bool:
    if deployment is None:
        return False
    existing = deployment.get("status", {}).get("replicas", 0)
    return existing == wanted and is_complete(deployment, replicas=wanted)


def _diagnosis(situation: Situation, revision: str) -> Diagnosis | None:
    """As if this revision were what the spec asks for."""
    about = replace(situation.plan, wanted_revision=revision)
    return diagnosis_of(replace(situation, plan=about))


def _sentence(diagnosis: Diagnosis | None, codes: Iterable[str]) -> str:
    return diagnosis.message if diagnosis is not None and diagnosis.code in codes else ""


def _hard_failure(diagnosis: Diagnosis | None, of_revision: Iterable[Manifest]) -> str:
    crashes = max(map(pods.restarts_of, of_revision), default=0)
    codes = HARD | CRASHES if crashes >= CRASHES_OF_A_FAILURE else HARD
    return _sentence(diagnosis, codes)


# -- routers ---------------------------------------------------------------------------------------


def routers_of(situation: Situation) -> RouterSight:
    key = ChildKey(DEPLOYMENT.kind, names.router(situation.server.name))
    deployment = situation.observed.children.get(key, {})
    return RouterSight(
        wanted=int(deployment.get("spec", {}).get("replicas", 0)),
        ready=len(ready_routers(situation.observed)),
    )


def route_of(situation: Situation, wish: Wish) -> RouteSight:
    if situation.plan.route is None:
        return RouteSight(refusal=situation.plan.route_problem)
    match wish.router:
        case Router.GATEWAY:
            return _built_in(situation)
        case Router.ISTIO:
            kinds = (VIRTUAL_SERVICE, DESTINATION_RULE)
            return _accepted(situation, kinds, istio_acceptance_of)
        case _:
            return _accepted(situation, (HTTP_ROUTE,), acceptance_of)


def _built_in(situation: Situation) -> RouteSight:
    """Every router that gets requests must say that it has the route; one is not enough."""
    version, heard = situation.plan.route_version, situation.observed.heard
    ready = [pods.name_of(pod) for pod in ready_routers(situation.observed)]
    answers = [heard.routers[name] for name in ready if name in heard.routers]
    have_it = [answer for answer in answers if answer.version == version]
    problems = [answer.problem for answer in answers if answer.version != version]
    return RouteSight(
        version=version,
        is_confirmed=bool(ready) and len(have_it) == len(ready),
        refusal=next(filter(None, problems), ""),
    )


def _accepted(
    situation: Situation,
    kinds: Iterable[Kind],
    judge: Callable[[Iterable[Manifest]], Acceptance],
) -> RouteSight:
    acceptance = judge([one for kind in kinds for one in situation.kept_children(kind.kind)])
    is_taken = acceptance.state is AcceptanceState.ACCEPTED
    is_refused = acceptance.state is AcceptanceState.REFUSED
    return RouteSight(
        is_confirmed=is_taken and all(_are_written(situation, kind.kind) for kind in kinds),
        refusal=acceptance.message if is_refused else "",
        waiting="" if is_refused else acceptance.message,
    )


def _are_written(situation: Situation, kind: str) -> bool:
    """They exist as they are wanted now."""
    waiting = any(write.manifest["kind"] == kind for write in situation.plan.writes)
    return bool(situation.kept_children(kind)) and not waiting
