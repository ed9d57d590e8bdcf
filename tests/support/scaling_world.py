"""A Deployment's `spec.replicas` under server-side apply, and who writes it, in memory.

The rules of `Api` are those that tests/api/test_replica_ownership.py proves on a real one.
"""

from dataclasses import dataclass, field

from modelserver_operator.apis.autoscaling import ScalingEngine
from modelserver_operator.scaling.handover import (
    HANDOVER_MANAGER,
    MAIN_MANAGER,
    Ownership,
    WritersSeen,
    next_handover,
)

HPA, KEDA, OPERATOR = ScalingEngine.HPA, ScalingEngine.KEDA, ScalingEngine.OPERATOR
CONTROLLER = "kube-controller-manager"
DEFAULT = 1  # of the API, for spec.replicas


@dataclass
class Api:
    """One Deployment's `spec.replicas` under server-side apply, and the autoscalers beside it."""

    replicas: int = DEFAULT
    owners: set[str] = field(default_factory=set)
    exists: bool = False
    version: int = 0
    autoscalers: set[ScalingEngine] = field(default_factory=set)
    ending: set[ScalingEngine] = field(default_factory=set)
    seen: list[int] = field(default_factory=list)

    def apply(self, manager, replicas):
        """With force; None leaves the field out."""
        self.version += 1
        if replicas is not None:
            self.owners = {manager} if replicas != self.replicas else self.owners | {manager}
            self.replicas = replicas
        elif manager in self.owners:
            self.owners -= {manager}
            self.replicas = self.replicas if self.owners else DEFAULT
        self._changed()

    def scale(self, manager, replicas):
        if replicas != self.replicas:
            self.version += 1
            self.owners, self.replicas = {manager}, replicas
        self._changed()

    def _changed(self):
        self.exists = True
        self.seen.append(self.replicas)

    def look(self):
        """With the version that was looked at, by which every write is guarded."""
        ownership = Ownership(replicas=self.replicas, owners=frozenset(self.owners))
        return self.version, WritersSeen(
            ownership=ownership if self.exists else None,
            autoscalers=frozenset(self.autoscalers | self.ending),
        )

    def autoscale(self, demand):
        """What exists (and KEDA's HPA, while it ends) writes what it finds right."""
        if self.autoscalers | self.ending and self.replicas > 0:
            self.scale(CONTROLLER, demand)


class Operator:
    """Carries out a step write by write, and may be killed between two."""

    def __init__(self, api):
        self.api = api

    def work(self, wanted, desired, *, looked=None, most_writes=9, **more):
        version, seen = looked or self.api.look()
        step = next_handover(wanted, desired, seen, **more)
        for write in list(self.writes(step, seen, version))[:most_writes]:
            write()
        return step

    def writes(self, step, seen, version):
        api = self.api
        if step.shared_replicas is not None:
            yield lambda: self.guarded(version, HANDOVER_MANAGER, step.shared_replicas)
            return
        if step.main_replicas != (seen.ownership.replicas if seen.ownership else None) or (
            (step.main_replicas is not None) != (MAIN_MANAGER in owners_of(seen))
        ):
            yield lambda: self.guarded(version, MAIN_MANAGER, step.main_replicas)
        if step.autoscaler is not None:
            yield lambda: api.autoscalers.add(step.autoscaler)
        for gone in seen.autoscalers - {step.autoscaler}:
            yield lambda gone=gone: self.remove(gone)

    def guarded(self, version, manager, replicas):
        if self.api.version == version:
            self.api.apply(manager, replicas)

    def remove(self, engine):
        if engine in self.api.autoscalers:
            self.api.autoscalers.discard(engine)
            self.api.ending |= {engine} & {KEDA}  # its HPA is collected a moment later


def owners_of(seen):
    return seen.ownership.owners if seen.ownership else frozenset()


def settle(operator, wanted, desired, demand):
    """Until nothing is left to do: far fewer looks than this are needed."""
    for _ in range(12):
        step = operator.work(wanted, desired)
        operator.api.ending.clear()
        operator.api.autoscale(demand)
    return step
