"""Who did what, by the API server's own account (its audit log)."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.api_request import ApiRequest

_FORBIDDEN = 403
_FINAL_STAGES = {"ResponseComplete", "Panic"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One answered request; a watch is entered when it begins."""

    user: str
    user_agent: str
    request: ApiRequest
    code: int
    decision: str  # allow or forbid: what RBAC said

    @property
    def is_forbidden(self) -> bool:
        return self.decision == "forbid" or self.code == _FORBIDDEN

    def __str__(self) -> str:
        return f"{self.request} -> {self.code}"


class AuditLog:
    """Reads the log from the place where a test began to count.

    The API server writes a line before it answers, so what was answered can be read here.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def mark(self) -> int:
        """Now, as a place in the log."""
        return self._path.stat().st_size if self._path.exists() else 0

    def entries(
        self, since: int = 0, *, where: Callable[[AuditEntry], bool] = lambda _: True
    ) -> list[AuditEntry]:
        return [entry for entry in self._read(since) if where(entry)]

    def writes_of(self, user: str, since: int = 0) -> list[AuditEntry]:
        """What a user wrote; the Lease, which is renewed by the clock, is left out."""

        def is_write(entry: AuditEntry) -> bool:
            request = entry.request
            return entry.user == user and request.is_write and request.resource != "leases"

        return self.entries(since, where=is_write)

    def counts(self, user: str, since: int = 0) -> Counter[tuple[str, str]]:
        """How often a user did what: (verb, resource[/subresource])."""
        entries = self.entries(since, where=lambda entry: entry.user == user)
        return Counter((entry.request.verb, entry.request.target) for entry in entries)

    def _read(self, since: int) -> Iterator[AuditEntry]:
        if not self._path.exists():
            return
        with self._path.open("rb") as log:
            log.seek(max(since - 1, 0))
            if since:
                log.readline()  # what was being written at the mark began before it
            for line in log:
                if line.endswith(b"\n") and (entry := _parse(json.loads(line))) is not None:
                    yield entry


def _parse(event: dict[str, Any]) -> AuditEntry | None:
    is_begun_watch = event["verb"] == "watch" and event["stage"] == "ResponseStarted"
    is_other = event["verb"] != "watch" and event["stage"] in _FINAL_STAGES
    code = event.get("responseStatus", {}).get("code", 0)
    is_refused_watch = event["verb"] == "watch" and code >= 400 and event["stage"] in _FINAL_STAGES
    if not (is_begun_watch or is_other or is_refused_watch):
        return None
    target = event.get("objectRef", {})
    return AuditEntry(
        user=event["user"]["username"],
        user_agent=event.get("userAgent", ""),
        code=code,
        decision=event.get("annotations", {}).get("authorization.k8s.io/decision", ""),
        request=ApiRequest(
            verb=event["verb"],
            group=target.get("apiGroup", ""),
            resource=target.get("resource", ""),
            subresource=target.get("subresource", ""),
            namespace=target.get("namespace", ""),
            name=target.get("name", ""),
        ),
    )
