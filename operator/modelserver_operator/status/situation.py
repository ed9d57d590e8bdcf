"""What the status is made from, and the numbers that every part of it asks for."""

from dataclasses import dataclass
from datetime import datetime

from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.plan.asking import ready_routers
from modelserver_operator.plan.routing import is_router
from modelserver_operator.plan.values import (
    ChildKey,
    Manifest,
    Observed,
    Plan,
    Refusal,
    ResolutionState,
)
from modelserver_operator.resources import labels, names
from modelserver_operator.resources.kinds import DEPLOYMENT, JOB, SERVICE
from modelserver_operator.status import pods


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """One ModelServer at one moment.

    The *target* is the revision that shall serve: the one that the spec asks for, unless that was
    rolled back. *Serving* is the one that answers what no route sends elsewhere. They are the same
    except during a rollout:

        first start    serving ""   target A
        at rest        serving A    target A
        rollout        serving A    target B    pods of A serve, pods of B start
        settling       serving B    target B    the Deployment of A is still there
        resolving      serving A    target ""   the commit of the new model is not known yet
    """

    server: ModelServer
    observed: Observed
    plan: Plan
    now: datetime
    refusals: tuple[Refusal, ...] = ()

    @property
    def target(self) -> str:
        return self.plan.wanted_revision or self.plan.target_revision

    @property
    def wanted(self) -> int:
        """Replicas of the target, which may be few while it is examined."""
        return self.plan.replicas.get(self.target, self.plan.sizing.replicas)

    @property
    def needed(self) -> int:
        """Replicas with which it is complete: more are what the load asks for, and come and go."""
        scaling = self.server.status.scaling
        least = max(1, scaling.min_replicas) if scaling is not None else self.wanted
        return min(self.wanted, least)

    @property
    def is_suspended(self) -> bool:
        return self.server.spec.suspend

    @property
    def is_resolved(self) -> bool:
        return self.plan.resolution.state is ResolutionState.RESOLVED

    @property
    def is_rolling(self) -> bool:
        """Another revision than the one that is asked for serves."""
        return self.plan.serving_revision not in {"", self.target}

    @property
    def workload_pods(self) -> tuple[Manifest, ...]:
        """Pods of all revisions, without those of Jobs and of the router."""
        return tuple(
            pod for pod in self.observed.pods if not pods.job_of(pod) and not is_router(pod)
        )

    @property
    def target_pods(self) -> tuple[Manifest, ...]:
        """Pods that decide about what the spec asks for: of its revision, or of its Job."""
        if not self.target:
            jobs = {pods.name_of(job) for job in self.kept_children(JOB.kind)}
            return tuple(pod for pod in self.observed.pods if pods.job_of(pod) in jobs)
        return self.pods_of(self.target)

    @property
    def asked_pods(self) -> tuple[Manifest, ...]:
        """Pods with the model that the spec asks for: none where that was rolled back."""
        asked = self.plan.target_revision
        return self.pods_of(asked) if asked else self.target_pods

    def pods_of(self, revision: str) -> tuple[Manifest, ...]:
        return tuple(
            pod for pod in self.workload_pods if revision and pods.revision_of(pod) == revision
        )

    @property
    def replicas(self) -> int:
        return sum(map(pods.is_alive, self.workload_pods))

    @property
    def updated(self) -> int:
        return sum(map(pods.is_alive, self.pods_of(self.target)))

    @property
    def serving_ready(self) -> int:
        return sum(map(pods.is_ready, self.pods_of(self.plan.serving_revision)))

    @property
    def target_ready(self) -> int:
        return sum(map(pods.is_ready, self.pods_of(self.target)))

    @property
    def has_root_service(self) -> bool:
        name = names.root_service(self.server.name)
        return ChildKey(SERVICE.kind, name) in self.observed.children

    @property
    def is_serving(self) -> bool:
        return self.has_root_service and self.serving_ready > 0 and self._is_reached

    @property
    def _is_reached(self) -> bool:
        """Through the built-in router, where the Service leads to it."""
        key = ChildKey(SERVICE.kind, names.root_service(self.server.name))
        selector = self.observed.children[key].get("spec", {}).get("selector") or {}
        return labels.ROLE not in selector or bool(ready_routers(self.observed))

    @property
    def is_complete(self) -> bool:
        """The revision that the spec asks for serves, with all the replicas that are wanted."""
        in_place = self.target != "" and not self.is_rolling and self.is_resolved
        return (
            in_place and self.target_ready >= self.needed and (self.wanted == 0 or self.is_serving)
        )

    def kept_children(self, kind: str) -> tuple[Manifest, ...]:
        """Children of a kind that the plan does not remove."""
        removed = {removal.key for removal in self.plan.removals}
        return tuple(
            manifest
            for key, manifest in self.observed.children.items()
            if key.kind == kind and key not in removed
        )

    @property
    def target_deployment(self) -> Manifest | None:
        deployments = self.kept_children(DEPLOYMENT.kind)
        target = self.target
        return next(
            (one for one in deployments if target and pods.revision_of(one) == target), None
        )
