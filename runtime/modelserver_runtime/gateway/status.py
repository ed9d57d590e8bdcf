"""What the router says of itself to the operator: GET /router/status."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelserver_runtime.gateway.counts import EDGES_SECONDS
from modelserver_runtime.gateway.route_file import RouteFile
from modelserver_runtime.gateway.router import Router


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """All counts are since `started_at`."""

    router: Router
    route_file: RouteFile
    started_at: datetime

    @property
    def is_ready(self) -> bool:
        return self.router.way is not None and not self.router.is_draining

    def readiness(self) -> dict[str, Any]:
        if self.is_ready:
            return {"ready": True}
        reason = "draining" if self.router.is_draining else self.route_file.problem
        return {"ready": False, "reason": reason}

    def as_json(self) -> dict[str, Any]:
        tally = self.router.tally
        way = self.router.way
        return {
            "version": way.route.version if way else "",
            "startedAt": self.started_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "routeProblem": self.route_file.problem,
            "held": {
                "requests": self.router.holder.requests,
                "bytes": self.router.holder.held_bytes,
            },
            "edgesSeconds": EDGES_SECONDS,
            "revisions": {name: one.as_json() for name, one in tally.revisions.items()},
            "experiments": {name: one.as_json() for name, one in tally.experiments.items()},
            "shadow": tally.shadow.as_json(),
        }
