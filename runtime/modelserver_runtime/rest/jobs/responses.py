"""Responses that clients may come back to, bounded in number and time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from modelserver_runtime.engine.worker import Clock
from modelserver_runtime.errors import ResourceNotFound
from modelserver_runtime.rest.jobs.background import Job
from modelserver_runtime.rest.schemas.responses import ResponseObject
from modelserver_runtime.settings import Settings

# Of the inputs and outputs of all that is kept; the oldest go first.
_MOST_BYTES = 128 << 20


@dataclass(slots=True, kw_only=True)
class StoredResponse:
    """`history` are the items before `inputs`; `job` is there for what the background makes."""

    tenant: str
    response: ResponseObject
    history: Sequence[dict[str, Any]]
    inputs: Sequence[dict[str, Any]]
    job: Job | None = None

    @property
    def size(self) -> int:
        """Without the history, which other responses hold."""
        return len(orjson.dumps([*self.inputs, *self.response.output]))

    @property
    def conversation(self) -> list[dict[str, Any]]:
        return [*self.history, *self.inputs, *self.response.output]


class ResponseStore:
    def __init__(self, settings: Settings, wall_clock: Clock) -> None:
        self._settings = settings
        self._wall_clock = wall_clock
        self._responses: dict[str, StoredResponse] = {}
        self._sizes: dict[str, int] = {}

    def keep(self, stored: StoredResponse) -> None:
        self._forget_expired()
        self._responses[stored.response.id] = stored
        self._sizes[stored.response.id] = stored.size
        most = self._settings.max_stored_responses
        while len(self._responses) > most or sum(self._sizes.values()) > _MOST_BYTES:
            self._forget(next(iter(self._responses)))

    def find(self, tenant: str, response_id: str, param: str | None = None) -> StoredResponse:
        self._forget_expired()
        stored = self._responses.get(response_id)
        if stored is None or stored.tenant != tenant:
            raise ResourceNotFound(
                f"There is no response {response_id}; it was not stored, or was forgotten since "
                "then",
                param=param,
            )
        return stored

    def delete(self, tenant: str, response_id: str) -> StoredResponse:
        stored = self.find(tenant, response_id)
        self._forget(response_id)
        return stored

    def _forget(self, response_id: str) -> None:
        del self._responses[response_id], self._sizes[response_id]

    def _forget_expired(self) -> None:
        """They are in the order of their time."""
        oldest_wanted = self._wall_clock() - self._settings.stored_responses_ttl_seconds
        while self._responses:
            oldest = next(iter(self._responses.values()))
            if oldest.response.created_at >= oldest_wanted:
                return
            self._forget(oldest.response.id)
