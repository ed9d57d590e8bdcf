"""Who may come in: keys and limits, by the runtime's own guard."""

import contextlib
from collections.abc import AsyncIterator, Sequence

from modelserver_runtime.access.addresses import client_address
from modelserver_runtime.access.guard import Arrival, Guard
from modelserver_runtime.access.ledger import Usage
from modelserver_runtime.access.principal import Scope
from modelserver_runtime.gateway import headers
from modelserver_runtime.gateway.request import Request
from modelserver_runtime.settings import Settings

_PUBLIC = frozenset({"/health"})


class Door:
    def __init__(self, guard: Guard, settings: Settings) -> None:
        self._guard = guard
        self._trusted = settings.trusted_proxies

    @contextlib.asynccontextmanager
    async def open(self, request: Request, scope: Scope) -> AsyncIterator[None]:
        """Raises RequestFailure for who is not let in."""
        if request.path in _PUBLIC:
            yield
            return
        passage = await self._guard.admit(self._arrival(request, scope))
        is_error = True
        try:
            if passage.failure is not None:
                raise passage.failure
            yield
            is_error = False
        finally:
            # What an answer took in tokens only its pod knows, which has limits of its own.
            await self._guard.finish(passage, Usage(), is_error=is_error)

    def _arrival(self, request: Request, scope: Scope) -> Arrival:
        def values(name: str) -> Sequence[str]:
            return headers.values_of(request.headers, name)

        return Arrival(
            what=f"{request.method} {request.path}",
            scope=scope,
            address=client_address(request.peer, values("x-forwarded-for"), self._trusted),
            authorization=values("authorization"),
            api_key=values("x-api-key"),
        )
