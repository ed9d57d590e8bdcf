"""What the operator asked of the API server, by the API server's own account."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bench.reconciling.lab import USER

WRITES = {"create", "update", "patch", "delete", "deletecollection"}


@dataclass(frozen=True, slots=True)
class Requests:
    """Counts of one stretch of the audit log, the Lease apart: it is renewed by the clock."""

    by_kind: Counter[str]

    @property
    def writes(self) -> int:
        return sum(n for key, n in self.by_kind.items() if _is_write(key) and not _is_lease(key))

    @property
    def all_but_lease(self) -> int:
        return sum(n for key, n in self.by_kind.items() if not _is_lease(key))

    @property
    def lease(self) -> int:
        return sum(n for key, n in self.by_kind.items() if _is_lease(key))


def mark(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def requests_since(path: Path, place: int) -> Requests:
    counted: Counter[str] = Counter()
    with path.open("rb") as log:
        log.seek(place)
        for line in log:
            event = json.loads(line)
            if event["user"]["username"] == USER and _is_final(event):
                target = event.get("objectRef", {})
                counted[f"{event['verb']} {target.get('resource', 'discovery')}"] += 1
    return Requests(counted)


def _is_final(event: dict[str, str]) -> bool:
    """A watch counts when it begins, everything else when it is answered."""
    wanted = "ResponseStarted" if event["verb"] == "watch" else "ResponseComplete"
    return event["stage"] == wanted


def _is_write(key: str) -> bool:
    return key.partition(" ")[0] in WRITES


def _is_lease(key: str) -> bool:
    return key.endswith(" leases")
