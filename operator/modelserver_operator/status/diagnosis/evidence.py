"""Gathers what a diagnosis is made from: of all that is observed, the part that decides."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.plan.values import ChildKey, Manifest, Refusal, Resolution
from modelserver_operator.resources.kinds import JOB
from modelserver_operator.status import pods
from modelserver_operator.status.diagnosis.containers import ContainerState, container_states
from modelserver_operator.status.situation import Situation

# A busy controller may take some seconds to make a pod; a minute means that it cannot.
PATIENCE_WITH_JOBS = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """About the revision that the spec asks for, or about resolving it; never about an old one.

    There are no `pods` and no `deployment` when as many pods are ready as are wanted: what went
    wrong on the way is then overcome.
    """

    server: ModelServer
    now: datetime
    conflicts: tuple[ChildKey, ...]
    refusals: tuple[Refusal, ...]
    resolution: Resolution
    deployment: Manifest | None
    pods: tuple[Manifest, ...]
    has_progress: bool  # a pod answers how far it is
    mount_failures: Mapping[str, str]  # by pod, as the kubelet says it
    stuck_job: str  # name of a Job that gets no pod

    def containers(self) -> Iterator[ContainerState]:
        for pod in self.pods:
            yield from container_states(pod)


def gather(situation: Situation) -> Evidence:
    plan = situation.plan
    is_short = situation.wanted > situation.target_ready
    resolves = not situation.target
    suspects = _suspects(situation.target_pods) if is_short or resolves else ()
    stuck = (pods.name_of(job) for job in _jobs_without_pods(situation)) if resolves else ()
    return Evidence(
        server=situation.server,
        now=situation.now,
        conflicts=plan.conflicts,
        refusals=situation.refusals,
        resolution=plan.resolution,
        deployment=situation.target_deployment if is_short else None,
        pods=suspects,
        mount_failures=situation.observed.mount_failures,
        has_progress=any(pods.name_of(pod) in situation.observed.progress for pod in suspects),
        stuck_job=min(stuck, default=""),
    )


def _jobs_without_pods(situation: Situation) -> Iterator[Manifest]:
    """The Job controller says only in Events why it cannot make a pod."""
    served = {pods.job_of(pod) for pod in situation.observed.pods}
    for job in situation.kept_children(JOB.kind):
        created = job["metadata"].get("creationTimestamp", situation.now.isoformat())
        is_old = situation.now - datetime.fromisoformat(created) >= PATIENCE_WITH_JOBS
        if is_old and not pods.status_of(job).get("conditions") and pods.name_of(job) not in served:
            yield job


def _suspects(candidates: tuple[Manifest, ...]) -> tuple[Manifest, ...]:
    """Pods that should be ready and are not, the oldest first.

    A pod that failed for good counts until another one became ready after it.
    """
    last_success = max(map(pods.ready_since, candidates), default="")
    suspects = [pod for pod in candidates if _is_suspect(pod, last_success)]
    return tuple(sorted(suspects, key=_age_order))


def _is_suspect(pod: Manifest, last_success: str) -> bool:
    if pods.is_being_deleted(pod) or pods.phase_of(pod) == pods.SUCCEEDED:
        return False
    if pods.phase_of(pod) == pods.FAILED:
        return pods.failed_at(pod) > last_success
    return not pods.is_ready(pod)


def _age_order(pod: Manifest) -> tuple[str, str]:
    return str(pod["metadata"].get("creationTimestamp", "")), pods.name_of(pod)
