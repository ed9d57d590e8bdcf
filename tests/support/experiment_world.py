"""A ModelServer with experiments, as the planner and the report see it; nodes and routers play."""

import copy
import json
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from hashlib import sha256
from typing import Any

from modelserver_operator.plan.answers import Heard, Histogram, ModelAnswer, RouterAnswer, Tally
from modelserver_operator.plan.values import ChildKey, Observed, Plan
from modelserver_operator.resources.kinds import OPTIONAL_KINDS
from modelserver_operator.resources.router_choice import Capabilities
from modelserver_operator.status.report import Reported, reported
from support.planning import NOW, World, a_manifest

type Manifest = dict[str, Any]

EDGES = (0.05, 0.1, 1.0)
REVISION, ROLE = "modelserver.dev/revision", "modelserver.dev/role"
EVERYTHING = Capabilities(kinds=frozenset(OPTIONAL_KINDS))


def a_tally(requests: int, *, errors: int = 0, within: int = 0) -> Tally:
    """All of them within the edge of that index."""
    buckets = [0] * (len(EDGES) + 1)
    buckets[within] = requests
    latency = Histogram(edges_seconds=EDGES, buckets=tuple(buckets))
    return Tally(requests=requests, errors=errors, latency=latency)


def by_header(name: str = "beta", **more: Any) -> Manifest:
    return {"name": name, "match": {"header": {"name": "x-track", "value": name}}, **more}


@dataclass
class ExperimentWorld(World):
    """`broken` revisions get no ready pod; `deaf` routers keep the route that they have."""

    broken: set[str] = field(default_factory=set)
    are_routers_up: bool = True
    are_deaf: bool = False
    began: datetime = NOW
    in_force: Manifest | None = None
    tallies: dict[str, Tally] = field(default_factory=dict)
    experiments: dict[str, Tally] = field(default_factory=dict)
    models: dict[str, Tally] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    writes: int = 0  # of the status
    last: Reported | None = None
    annotations: dict[str, dict[str, str]] = field(default_factory=dict)  # by pod

    # -- the world -----------------------------------------------------------------------------

    def observe(self) -> Observed:
        seen = replace(super().observe(), pods=tuple(self._pods()), capabilities=EVERYTHING)
        return replace(seen, heard=self._heard(seen))

    def _pods(self) -> list[Manifest]:
        made = []
        for key, deployment in self.children.items():
            if key.kind == "Deployment":
                labels = deployment["spec"]["template"]["metadata"]["labels"]
                ready = self._is_ready(labels)
                count = deployment["spec"]["replicas"]
                made += [_pod(f"{key.name}-{number}", labels, ready) for number in range(count)]
        for pod in made:
            pod["metadata"]["annotations"] = self.annotations.get(pod["metadata"]["name"], {})
        return made

    def apply(self, plan: Plan) -> None:
        super().apply(plan)
        for one in plan.pod_annotations:
            self.annotations.setdefault(one.pod, {})[one.annotation] = one.value

    def _is_ready(self, labels: Manifest) -> bool:
        if labels.get(ROLE) == "router":
            return self.are_routers_up
        return labels[REVISION] not in self.broken

    def _heard(self, seen: Observed) -> Heard:
        ready = [one for one in seen.pods if one["status"]["conditions"][0]["status"] == "True"]
        routers = [one for one in ready if one["metadata"]["labels"].get(ROLE) == "router"]
        models = [one for one in ready if REVISION in one["metadata"]["labels"]]
        return Heard(
            routers={
                one["metadata"]["name"]: self._router(number) for number, one in enumerate(routers)
            },
            models={
                one["metadata"]["name"]: ModelAnswer(
                    began=self.began,
                    tally=self.models.get(one["metadata"]["labels"][REVISION], Tally()),
                )
                for one in models
                if one["metadata"]["name"].endswith("-0")
            },
        )

    def _router(self, number: int) -> RouterAnswer:
        """The first has seen everything, so that numbers are easy."""
        return RouterAnswer(
            version=(self.in_force or {}).get("version", ""),
            began=self.began,
            tallies=self.tallies if number == 0 else {},
            experiments=self.experiments if number == 0 else {},
        )

    # -- the operator --------------------------------------------------------------------------

    def step(self) -> Plan:
        plan = self.plan()
        self.apply(plan)
        self._play()
        self._report()
        return plan

    def _play(self) -> None:
        """What controllers and kubelets do."""
        for key, deployment in self.children.items():
            if key.kind == "Deployment":
                labels = deployment["spec"]["template"]["metadata"]["labels"]
                count = deployment["spec"]["replicas"]
                deployment["status"] = {
                    "observedGeneration": deployment["metadata"]["generation"],
                    "replicas": count,
                    "updatedReplicas": count,
                    "readyReplicas": count if self._is_ready(labels) else 0,
                }
        config = self.children.get(ChildKey("ConfigMap", "chat-router"))
        if config is None:
            self.in_force = None
        elif not self.are_deaf:
            self.in_force = json.loads(config["data"]["route.json"])

    def _report(self) -> None:
        plan = self.plan()
        self.last = reported(self.server(), self.observe(), plan, self.now)
        status = json.loads(json.dumps(self.last.status))
        if status != self.manifest.get("status"):
            self.writes += 1
            self.manifest["status"] = status

    def settle(self, limit: int = 60) -> Plan:
        """Until nothing changes at this time."""
        for _ in range(limit):
            before = self.manifest.get("status")
            plan = self.step()
            self.check()
            if plan.is_empty and self.manifest.get("status") == before:
                return plan
        raise AssertionError(f"still busy after {limit} looks: {self.manifest['status']}")

    def wait(self, seconds: float) -> None:
        self.pass_time(seconds)
        self.settle()

    # -- what is seen --------------------------------------------------------------------------

    @property
    def status(self) -> Manifest:
        return self.manifest.get("status", {})

    def experiment(self, name: str = "beta") -> Manifest:
        return next(one for one in self.status["experiments"] if one["name"] == name)

    @property
    def is_routed(self) -> bool:
        selector = self.children[ChildKey("Service", "chat")]["spec"]["selector"]
        return bool(selector.get(ROLE) == "router")

    @property
    def has_router(self) -> bool:
        return ChildKey("Deployment", "chat-router") in self.children

    @property
    def tried(self) -> dict[str, str]:
        """Revisions by the experiments that the routers know."""
        experiments = (self.in_force or {}).get("experiments", [])
        return {one["name"]: one["revision"] for one in experiments}

    def replicas(self, revision: str) -> int:
        deployment = self.deployment(revision)
        return deployment["spec"]["replicas"] if deployment else 0

    def condition(self, kind: str) -> tuple[str, str, str]:
        found = {one["type"]: one for one in self.status["conditions"]}[kind]
        return found["status"], found["reason"], found["message"]

    def check(self) -> None:
        """What must hold at every moment."""
        if self.children.get(ChildKey("Service", "chat")) and self.is_routed:
            assert self.has_router, "the Service leads to nobody"
        for revision in (self.in_force or {}).get("revisions", {}):
            named = {revision} & {*self.tried.values()}
            assert not named or revision in self.revisions(), f"{revision} has no pods"


def _pod(name: str, labels: Manifest, ready: bool) -> Manifest:
    status = {
        "phase": "Running",
        "podIP": "192.0.2.7",
        "conditions": [
            {
                "type": "Ready",
                "status": "True" if ready else "False",
                "lastTransitionTime": "2026-11-21T12:00:00Z",
            }
        ],
    }
    metadata = {"name": name, "uid": sha256(name.encode()).hexdigest(), "labels": dict(labels)}
    return {"kind": "Pod", "metadata": metadata, "spec": {"containers": []}, "status": status}


def serving(spec: Manifest | None = None, **traffic: Any) -> ExperimentWorld:
    """One revision serves, and nothing is left to do."""
    given = {"model": {"uri": "pvc://models"}, "replicas": 2, **(spec or {})}
    if traffic:
        given["traffic"] = traffic
    base = _settled(json.dumps(given))
    return ExperimentWorld(
        copy.deepcopy(base.manifest),
        children=copy.deepcopy(base.children),
        now=base.now,
        _uids=len(base.children),
    )


@cache
def _settled(spec: str) -> ExperimentWorld:
    world = ExperimentWorld(a_manifest(json.loads(spec)))
    world.settle()
    world.wait(60)
    return world
