"""Who has written `spec.replicas` of a Deployment, as server-side apply keeps account of it.

The rules are those that tests/api/test_replica_ownership.py proves on a real API server.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from modelserver_operator.scaling.handover import HANDOVER_MANAGER, MAIN_MANAGER

WRITER, SHARER = MAIN_MANAGER, HANDOVER_MANAGER
DEFAULT = 1  # of the API

type Manifest = dict[str, Any]


@dataclass
class FieldOwners:
    replicas: int = DEFAULT
    managers: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, deployment: Manifest | None) -> Self:
        if deployment is None:
            return cls()
        entries = deployment["metadata"].get("managedFields", [])
        return cls(deployment["spec"]["replicas"], {entry["manager"] for entry in entries})

    def apply(self, manager: str, spec: Mapping[str, Any]) -> None:
        """With force; a spec without the number leaves it to whoever else has written it."""
        number = spec.get("replicas")
        if number is not None:
            others = self.managers if number == self.replicas else set()
            self.replicas, self.managers = number, others | {manager}
        elif manager in self.managers:
            self.managers -= {manager}
            self.replicas = self.replicas if self.managers else DEFAULT

    def scale(self, manager: str, replicas: int) -> None:
        if replicas != self.replicas:
            self.replicas, self.managers = replicas, {manager}

    def written_into(self, deployment: Manifest) -> Manifest:
        entries = [
            {
                "manager": one,
                "fieldsV1": {"f:spec": {"f:replicas": {}}},
                **({} if one in {WRITER, SHARER} else {"subresource": "scale"}),
            }
            for one in sorted(self.managers)
        ]
        metadata = deployment["metadata"] | {"managedFields": entries}
        spec = deployment["spec"] | {"replicas": self.replicas}
        return deployment | {"metadata": metadata, "spec": spec}
