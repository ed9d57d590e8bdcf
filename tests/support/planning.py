"""A world in memory for the planner: what it plans is done, and controllers are played."""

import copy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from modelserver_operator.apis.v1alpha1 import ModelServer, parse_model_server
from modelserver_operator.config import OperatorConfig
from modelserver_operator.plan.desired import desired_state
from modelserver_operator.plan.looks import key_of
from modelserver_operator.plan.values import ChildKey, Observed, Plan

type Manifest = dict[str, Any]

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = OperatorConfig(runtime_image="registry.example/runtime:1")
_REVISION = "modelserver.dev/revision"
UID = "11111111-2222-3333-4444-555555555555"


def a_manifest(spec: Manifest | None = None, *, name: str = "chat", **more: Any) -> Manifest:
    """A stored ModelServer; without a spec, a pinned model of the hub."""
    model = {"model": {"uri": "hf://org/model", "revision": COMMIT}}
    return {
        "apiVersion": "modelserver.dev/v1alpha1",
        "kind": "ModelServer",
        "metadata": {"name": name, "namespace": "models", "uid": UID, "generation": 1},
        "spec": {**model, **(spec or {})},
        **more,
    }


def a_server(spec: Manifest | None = None, **more: Any) -> ModelServer:
    return parse_model_server(a_manifest(spec, **more))


def nothing() -> Observed:
    return Observed(children={}, strangers={}, pods=(), progress={})


def plan_for(server: ModelServer, observed: Observed | None = None, **more: Any) -> Plan:
    return desired_state(server, observed or nothing(), more.get("config", CONFIG), NOW)


@dataclass
class World:
    """One ModelServer, its children and pods, and a clock that only moves when told."""

    manifest: Manifest
    config: OperatorConfig = CONFIG
    children: dict[ChildKey, Manifest] = field(default_factory=dict)
    strangers: dict[ChildKey, Manifest] = field(default_factory=dict)
    pods: list[Manifest] = field(default_factory=list)
    now: datetime = NOW
    _uids: int = 0

    def observe(self) -> Observed:
        return Observed(
            children=copy.deepcopy(self.children),
            strangers=copy.deepcopy(self.strangers),
            pods=tuple(copy.deepcopy(self.pods)),
            progress={},
        )

    def server(self) -> ModelServer:
        return parse_model_server(self.manifest)

    def plan(self) -> Plan:
        return desired_state(self.server(), self.observe(), self.config, self.now)

    def step(self) -> Plan:
        """One reconciliation."""
        plan = self.plan()
        self.apply(plan)
        self.report(plan)
        return plan

    def settle(self, limit: int = 10) -> Plan:
        """Until nothing is left to do just now."""
        for _ in range(limit):
            plan = self.step()
            if plan.is_empty:
                return plan
        raise AssertionError(f"still busy after {limit} reconciliations: {plan}")

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def apply(self, plan: Plan) -> None:
        for write in plan.writes:
            self._store(copy.deepcopy(write.manifest))
        for label in plan.pod_labels:
            pod = next(one for one in self.pods if one["metadata"]["name"] == label.pod)
            pod["metadata"]["labels"][label.label] = label.value
        for removal in plan.removals:
            assert self.children[removal.key]["metadata"]["uid"] == removal.uid
            del self.children[removal.key]

    def _store(self, manifest: Manifest) -> None:
        key = key_of(manifest)
        before = self.children.get(key)
        self._uids += before is None
        metadata = manifest["metadata"]
        metadata["uid"] = before["metadata"]["uid"] if before else f"uid-{self._uids}"
        metadata["generation"] = (before or {"metadata": {}})["metadata"].get("generation", 0) + 1
        metadata.pop("resourceVersion", None)
        if before and "status" in before:
            manifest["status"] = before["status"]
        self.children[key] = manifest

    def report(self, plan: Plan) -> None:
        """The two fields of status that the planner reads back."""
        status = self.manifest.setdefault("status", {})
        before = status.get("servingRevision", "")
        serving = plan.serving_revision
        if serving and (before or self.ready(serving)) and serving != before:
            status["servingRevision"] = serving
            status["servingSince"] = self.now.strftime("%Y-%m-%dT%H:%M:%SZ")

    def change(self, **spec: Any) -> None:
        self.manifest["spec"] = {**self.manifest["spec"], **spec}
        self.manifest["metadata"]["generation"] += 1

    def deployment(self, revision: str) -> Manifest | None:
        name = f"{self.manifest['metadata']['name']}-{revision}"
        return self.children.get(ChildKey("Deployment", name))

    def ready(self, revision: str) -> int:
        deployment = self.deployment(revision) or {}
        return deployment.get("status", {}).get("readyReplicas", 0)

    def make_ready(self, revision: str, count: int | None = None) -> None:
        """The Deployment controller reports that many pods ready; by default all."""
        deployment = self.deployment(revision)
        assert deployment is not None, f"no Deployment of {revision}"
        replicas = deployment["spec"]["replicas"]
        ready = replicas if count is None else min(count, replicas)
        deployment["status"] = {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": replicas,
            "updatedReplicas": replicas,
            "readyReplicas": ready,
        }

    def make_all_ready(self) -> None:
        for revision in self.revisions():
            self.make_ready(revision)

    def revisions(self) -> set[str]:
        """Those that have a Deployment."""
        deployments = (one for key, one in self.children.items() if key.kind == "Deployment")
        labels = (one["metadata"]["labels"] for one in deployments)
        return {one[_REVISION] for one in labels if _REVISION in one}

    def root_revision(self) -> str:
        name = self.manifest["metadata"]["name"]
        root = self.children[ChildKey("Service", name)]
        return root["spec"]["selector"]["modelserver.dev/revision"]

    def answer_resolve_job(self, commit: str = COMMIT) -> None:
        """Its pod has ended with the answer in its termination message."""
        job = next(key for key in self.children if key.kind == "Job")
        ended = {"exitCode": 0, "message": f'{{"revision": "{commit}", "sizeBytes": 0}}'}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{job.name}-x",
                "uid": "pod-1",
                "labels": {"batch.kubernetes.io/job-name": job.name},
            },
            "spec": {"containers": [{"name": "resolve"}]},
            "status": {
                "phase": "Succeeded",
                "containerStatuses": [{"name": "resolve", "state": {"terminated": ended}}],
            },
        }
        self.pods.append(pod)


def a_world(spec: Manifest | None = None, **config: Any) -> World:
    return World(a_manifest(spec), config=replace(CONFIG, **config))
