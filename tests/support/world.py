"""A cluster in memory for the pure core: the real planner and status, controllers in one step.

`step` is one reconciliation: observe, plan, write, let the controllers make pods, report. What the
pods are like is an outcome of `pod_outcomes`: the manifests are those that a kubelet would leave.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from modelserver_operator.apis.v1alpha1 import ModelServer, parse_model_server
from modelserver_operator.config import OperatorConfig
from modelserver_operator.plan.desired import desired_state
from modelserver_operator.plan.scaling_values import NOTHING_SCALED, ScalingObserved
from modelserver_operator.plan.values import (
    ChildKey,
    Manifest,
    Observed,
    Plan,
    PodProgress,
    Refusal,
    WriteMode,
)
from modelserver_operator.resources.router_choice import NO_CAPABILITIES, Capabilities
from modelserver_operator.status.events import Event, events_of
from modelserver_operator.status.report import status_of
from support.field_owners import SHARER, WRITER, FieldOwners
from support.pod_outcomes import FINE, Outcome

START = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG = OperatorConfig(runtime_image="registry.example/runtime:1")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER_COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
REVISION = "modelserver.dev/revision"


@dataclass
class World:
    spec: dict[str, Any]
    outcome: Outcome = FINE  # of every pod whose revision is not in `outcomes`
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    progress: dict[str, PodProgress] = field(default_factory=dict)
    mount_failure: str = ""  # what the kubelet says about every pod whose volumes are asked about
    strangers: dict[ChildKey, Manifest] = field(default_factory=dict)
    deployment_conditions: list[dict[str, Any]] = field(default_factory=list)
    config: OperatorConfig = CONFIG
    now: datetime = START
    generation: int = 1
    status: Manifest = field(default_factory=dict)
    children: dict[ChildKey, Manifest] = field(default_factory=dict)
    pods: list[Manifest] = field(default_factory=list)
    plan: Plan | None = None
    refuses: bool = False  # the API server accepts no new child
    capabilities: Capabilities = NO_CAPABILITIES
    scaling: ScalingObserved = NOTHING_SCALED

    def change(self, **spec: Any) -> None:
        self.spec = {**self.spec, **spec}
        self.generation += 1

    @property
    def manifest(self) -> Manifest:
        metadata = {"name": "chat", "namespace": "ns", "uid": "u", "generation": self.generation}
        return {
            "apiVersion": "modelserver.dev/v1alpha1",
            "kind": "ModelServer",
            "metadata": metadata,
            "spec": self.spec,
            "status": self.status,
        }

    @property
    def server(self) -> ModelServer:
        return parse_model_server(copy.deepcopy(self.manifest))

    @property
    def observed(self) -> Observed:
        return Observed(
            children=copy.deepcopy(self.children),
            strangers=self.strangers,
            pods=tuple(copy.deepcopy(self.pods)),
            progress=self.progress,
            mount_failures=self._asked() if self.mount_failure else {},
            capabilities=self.capabilities,
            scaling=self.scaling,
        )

    def _asked(self) -> dict[str, str]:
        names = self.plan.unmounted if self.plan else ()
        return dict.fromkeys(names, self.mount_failure)

    def look(self, refusals: Sequence[Refusal] = ()) -> Manifest:
        """The status of this moment, which is not stored; questions are answered at once."""
        for _ in range(2):
            self.plan = desired_state(self.server, self.observed, self.config, self.now)
        return status_of(self.server, self.observed, self.plan, self.now, refusals)

    def step(self, seconds: float = 1, refusals: Sequence[Refusal] = ()) -> tuple[Event, ...]:
        self.now += timedelta(seconds=seconds)
        self.plan = desired_state(self.server, self.observed, self.config, self.now)
        self._write(self.plan)
        self._control()
        status = self.look(refusals)
        events = events_of(self.status, status)
        self.status = status
        return events

    def steps(self, count: int, seconds: float = 1) -> list[Event]:
        return [event for _ in range(count) for event in self.step(seconds)]

    def condition(self, kind: str) -> Mapping[str, Any]:
        conditions = self.status["conditions"]
        return next((one for one in conditions if one["type"] == kind), {})

    @property
    def summary(self) -> dict[str, tuple[str, str]]:
        """type → (status, reason) of every condition."""
        return {c["type"]: (c["status"], c["reason"]) for c in self.status["conditions"]}

    @property
    def diagnosis(self) -> Mapping[str, str]:
        return self.status.get("diagnosis", {})

    def _write(self, plan: Plan) -> None:
        for write in () if self.refuses else plan.writes:
            manifest = copy.deepcopy(write.manifest)
            key = ChildKey(manifest["kind"], manifest["metadata"]["name"])
            manifest["metadata"] |= {"uid": key.name, "creationTimestamp": self._time()}
            self.children[key] = self._owned(key, manifest, write.mode)
        for removal in plan.removals:
            self.children.pop(removal.key, None)
        for label in plan.pod_labels:
            for pod in self.pods:
                if pod["metadata"]["name"] == label.pod:
                    pod["metadata"]["labels"][label.label] = label.value

    def _owned(self, key: ChildKey, manifest: Manifest, mode: WriteMode) -> Manifest:
        """A Deployment with what the API server knows of who has written the number of its pods."""
        if key.kind != "Deployment":
            return manifest
        before = self.children.get(key)
        number = FieldOwners.of(before)
        number.apply(SHARER if mode is WriteMode.SHARE else WRITER, manifest["spec"])
        kept = before if mode is WriteMode.SHARE and before is not None else manifest
        return number.written_into(kept)

    def scale(self, key: ChildKey, replicas: int, manager: str) -> None:
        """As an autoscaler does, or a gateway."""
        number = FieldOwners.of(self.children[key])
        number.scale(manager, replicas)
        self.children[key] = number.written_into(self.children[key])

    def _control(self) -> None:
        self.pods = [pod for pod in self.pods if self._owner_of(pod) in self.children]
        for key, child in self.children.items():
            if key.kind == "Deployment":
                self._scale(key, child, child["spec"]["replicas"])
                self._count(key, child)
            elif key.kind == "Job":
                self._scale(key, child, 1)

    def _owner_of(self, pod: Manifest) -> ChildKey:
        labels = pod["metadata"]["labels"]
        if "batch.kubernetes.io/job-name" in labels:
            return ChildKey("Job", labels["batch.kubernetes.io/job-name"])
        return ChildKey("Deployment", f"chat-{labels[REVISION]}")

    def _pods_of(self, key: ChildKey) -> list[Manifest]:
        return [pod for pod in self.pods if self._owner_of(pod) == key]

    def _scale(self, key: ChildKey, child: Manifest, replicas: int) -> None:
        existing = self._pods_of(key)
        is_blocked = any(c["type"] == "ReplicaFailure" for c in self.deployment_conditions)
        for pod in existing[replicas:]:
            self.pods.remove(pod)
        for number in range(len(existing), 0 if is_blocked else replicas):
            self.pods.append(self._made(key, child, number))
        for pod in self._pods_of(key):
            outcome = self.outcomes.get(pod["metadata"]["labels"].get(REVISION, ""), self.outcome)
            pod["status"] = outcome.status_of(pod)

    def _made(self, key: ChildKey, child: Manifest, number: int) -> Manifest:
        template = copy.deepcopy(child["spec"]["template"])
        owner = {"kind": "ReplicaSet", "name": f"{key.name}-abc", "controller": True}
        if key.kind == "Job":
            template["metadata"]["labels"]["batch.kubernetes.io/job-name"] = key.name
            owner = {"kind": "Job", "name": key.name, "controller": True}
        template["metadata"] |= {
            "name": f"{key.name}-abc-{number}",
            "uid": f"{key.name}-{number}",
            "creationTimestamp": self._time(),
            "ownerReferences": [owner],
        }
        return template

    def _count(self, key: ChildKey, child: Manifest) -> None:
        ready = [
            pod
            for pod in self._pods_of(key)
            for condition in pod["status"].get("conditions", [])
            if condition["type"] == "Ready" and condition["status"] == "True"
        ]
        count = len(self._pods_of(key))
        child["status"] = {
            "replicas": count,
            "updatedReplicas": count,
            "readyReplicas": len(ready),
            "conditions": self.deployment_conditions,
        }

    def _time(self) -> str:
        return self.now.strftime("%Y-%m-%dT%H:%M:%SZ")


def pinned(**more: Any) -> dict[str, Any]:
    """A spec whose model names its commit, so that nothing has to be resolved."""
    return {"model": {"uri": "hf://example/tiny", "revision": COMMIT}, **more}


def unpinned(**more: Any) -> dict[str, Any]:
    return {"model": {"uri": "hf://example/tiny"}, **more}


def on_claim(**more: Any) -> dict[str, Any]:
    return {"model": {"uri": "pvc://models/chat"}, **more}


def fetching(percent: float, *, total: int = 1_200_000_000, eta: float | None = 90) -> PodProgress:
    return PodProgress(
        phase="Fetching",
        percent=percent,
        done_bytes=int(total * percent / 100),
        total_bytes=total,
        eta_seconds=eta,
        message="",
    )


def loading() -> PodProgress:
    return PodProgress(
        phase="Loading", percent=10, done_bytes=0, total_bytes=0, eta_seconds=None, message=""
    )
