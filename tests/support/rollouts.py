"""A rollout on the stage, as a test plays it: begin, change, watch, command."""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from support.fault_proxy import FaultProxy
from support.servers import Servers, pinned
from support.stage import Stage
from support.waiting import wait_until

type Manifest = dict[str, Any]

COMMAND = "modelserver.dev/command"
PATIENCE = 600  # seconds; a run takes about ten on an idle machine

# As quick as the API allows: counted every two seconds, and no step is held.
STEPS = [{"weightPercent": 20, "holdSeconds": 0}, {"weightPercent": 100, "holdSeconds": 0}]
ANALYSIS = {"intervalSeconds": 2, "minSamples": 20}
CANARY = {"strategy": "Canary", "steps": STEPS, "analysis": ANALYSIS, "bakeSeconds": 0}


def canary(**more: Any) -> Manifest:
    return {**CANARY, **more}


@dataclass(slots=True)
class Play:
    """One ModelServer that is rolled out, and the traffic that it gets."""

    servers: Servers
    stage: Stage
    name: str = "chat"
    _tokens: Iterator[int] = field(default_factory=itertools.count)
    _changes: Iterator[int] = field(default_factory=itertools.count)

    # -- what is done --------------------------------------------------------------------------

    def begin(self, rollout: Manifest | None = None, *, replicas: int = 2, **spec: Any) -> str:
        """The first revision serves; returns its name."""
        self.stage.direct(self.stage.traffic.outcome, server=self.name)
        given = pinned(replicas=replicas, rollout=rollout or CANARY, **spec)
        self.servers.create(self.name, given)
        return self.servers.wait_settled(self.name)["status"]["servingRevision"]

    def change(self, **spec: Any) -> str:
        """Another revision is asked for; returns its name."""
        before = self.status["targetRevision"]
        args = [f"--change={next(self._changes)}"]
        self.servers.patch(self.name, spec or {"runtime": {"args": args}})
        return self.until(
            lambda status: (
                self._is_current(status)
                and status.get("targetRevision") != before
                and status["targetRevision"]
            ),
            "another target",
        )

    def _is_current(self, status: Manifest) -> bool:
        generation = self.servers.get(self.name)["metadata"]["generation"]
        return status.get("observedGeneration") == generation

    def command(self, verb: str, revision: str) -> str:
        """Returns the whole command, by which its result is told."""
        command = f"{verb}/{revision}/t{next(self._tokens)}"
        patch = {"metadata": {"annotations": {COMMAND: command}}}
        self.servers.kube.patch(self.servers.path(self.name), patch)
        return command

    def obey(self, verb: str, revision: str) -> Manifest:
        """Gives a command and waits for what became of it."""
        command = self.command(verb, revision)

        def answered(status: Manifest) -> Manifest | None:
            last = status.get("lastCommand", {})
            return last if last.get("token") == command else None

        return self.until(answered, f"an answer to {command}")

    # -- what is seen --------------------------------------------------------------------------

    @property
    def status(self) -> Manifest:
        return self.servers.status(self.name)

    @property
    def run(self) -> Manifest:
        return self.status.get("rollout", {})

    def until(self, look: Callable[[Manifest], Any], what: str) -> Any:
        try:
            return wait_until(lambda: look(self.status), timeout=PATIENCE, what=what, interval=0.05)
        except AssertionError as e:
            raise AssertionError(f"{e}; status: {json.dumps(self.status, indent=1)}") from e

    def until_phase(self, *phases: str) -> Manifest:
        def is_there(status: Manifest) -> Manifest | None:
            run = status.get("rollout", {})
            return run if run.get("phase") in phases else None

        return self.until(is_there, f"phase {' or '.join(phases)}")

    def until_promoted(self, revision: str) -> Manifest:
        def is_over(status: Manifest) -> bool:
            run = status.get("rollout", {})
            return run.get("phase") == "Succeeded" and status["servingRevision"] == revision

        self.until(is_over, f"{revision} promoted")
        return self.servers.wait_settled(self.name, timeout=PATIENCE)

    def until_rolled_back(self, stable: str) -> Manifest:
        def is_over(status: Manifest) -> bool:
            run = status.get("rollout", {})
            return run.get("phase") == "RolledBack" and status["servingRevision"] == stable

        self.until(is_over, f"rolled back to {stable}")
        return self.servers.wait_settled(self.name, timeout=PATIENCE)

    def until_holding(self, reason: str) -> Manifest:
        def is_holding(status: Manifest) -> Manifest | None:
            holding = status.get("rollout", {}).get("holding", {})
            return holding if holding.get("reason") == reason else None

        return self.until(is_holding, f"Holding {reason}")

    def until_only(self, revision: str) -> None:
        """What a rollout needs beside the revision that serves has gone."""
        expected = {f"{self.name}-{revision}"}

        def is_alone(_: Manifest) -> bool:
            deployments = [c for c in self.servers.children(self.name) if c["kind"] == "Deployment"]
            return {one["metadata"]["name"] for one in deployments} == expected

        self.until(is_alone, f"only the Deployment of {revision}")

    def condition(self, kind: str) -> tuple[str, str]:
        found = self.servers.condition(self.name, kind)
        return found.get("status", ""), found.get("reason", "")

    def reasons_of_events(self) -> set[str]:
        return {event["reason"] for event in self.servers.events(self.name)}

    def root_selector(self) -> Manifest:
        root = self.servers.child("Service", self.name)
        assert root is not None
        return root["spec"]["selector"]


def reports(proxy: FaultProxy, namespace: str, name: str = "chat") -> list[Manifest]:
    """Every status that an operator wrote and the API server took, in order."""
    return [
        json.loads(seen.body)["status"]
        for seen in proxy.writes(namespace=namespace)
        if (seen.request.resource, seen.request.name) == ("modelservers", name) and seen.succeeded
    ]


def intended_weights(proxy: FaultProxy, namespace: str, name: str = "chat") -> list[int]:
    """Of the new revision, each time that it changed."""
    weights = [
        report["rollout"]["weights"].get("intended", 0)
        for report in reports(proxy, namespace, name)
        if "weights" in report.get("rollout", {})
    ]
    return [weight for weight, _ in itertools.groupby(weights)]


def phases(proxy: FaultProxy, namespace: str) -> list[str]:
    """Each once for each time that it was entered."""
    found = [report.get("rollout", {}).get("phase", "") for report in reports(proxy, namespace)]
    return [phase for phase, _ in itertools.groupby(found) if phase]
