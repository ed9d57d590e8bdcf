"""Who may come in: keys, tokens and limits, by the runtime's own guard, before anything else.

the front door     a key or token, if the gateway has any; its scopes; then its limits
a server's port    whoever reaches the server's Service; its pods ask for their keys themselves
both, as it sleeps a server that has keys is woken only for one that is known here
"""

import contextlib
from collections.abc import AsyncIterator, Hashable, Sequence
from dataclasses import replace

from modelserver_runtime.access.addresses import client_address
from modelserver_runtime.access.caller import Caller
from modelserver_runtime.access.guard import Arrival, Guard
from modelserver_runtime.access.ledger import Usage
from modelserver_runtime.access.limits.headers import limit_headers
from modelserver_runtime.access.principal import Scope
from modelserver_runtime.errors import NotAuthenticated, RequestFailure
from modelserver_runtime.gateway import headers
from modelserver_runtime.gateway.cluster import ServedModel
from modelserver_runtime.gateway.request import Request
from modelserver_runtime.settings import Settings

type Pairs = list[tuple[bytes, bytes]]


class Visit:
    """One request that came in. `caller` has no key where none was asked for.

    `headers` say what is left of limits.
    """

    def __init__(self, guard: Guard, arrival: Arrival, caller: Caller, pairs: Pairs) -> None:
        self.headers = pairs
        self._guard = guard
        self._arrival = arrival
        self._caller = caller

    def may_use(self, model: ServedModel) -> bool:
        return self._caller.may_use(model.allowed_names, model.key.namespace)

    @property
    def rights(self) -> Hashable:
        """The same for who may see the same: two tokens of one subject may differ."""
        key = self._caller.key
        return key and (key.id, key.models, key.namespaces, key.scopes)

    @property
    def is_admin(self) -> bool:
        return Scope.ADMIN in self._caller.scopes

    def require(self, model: ServedModel) -> None:
        """Raises NotPermitted."""
        self._caller.require_model(model.allowed_names, model.key.namespace)

    async def require_to_wake(self, model: ServedModel) -> None:
        """Before somebody is held: its pods would refuse who has no key, and are not there to.

        Raises RequestFailure.
        """
        if not model.has_keys or self._caller.key is not None:
            return
        self._caller = await self._guard.identify(self._arrival)
        if self._caller.key is None:
            raise NotAuthenticated(
                f"The model {model.served_name!r} sleeps and needs an API key, and this gateway "
                "knows none; mount its keys into the gateway"
            )
        self.require(model)


class Door:
    def __init__(self, guard: Guard, settings: Settings) -> None:
        self._guard = guard
        self._trusted = settings.trusted_proxies

    @contextlib.asynccontextmanager
    async def open(self, request: Request, scope: Scope) -> AsyncIterator[Visit]:
        """Raises RequestFailure for who is not let in, with what is left of limits."""
        arrival = self._arrival(request, scope)
        passage = await self._guard.admit(arrival)
        decision = passage.admission.decision if passage.admission else None
        pairs = list(limit_headers(decision)) if decision else []
        is_error = True
        try:
            if passage.failure is not None:
                raise NotLetIn(passage.failure, pairs)
            yield Visit(self._guard, arrival, passage.caller, pairs)
            is_error = False
        finally:
            # What an answer took in tokens only its pod knows, which has limits of its own.
            await self._guard.finish(passage, Usage(), is_error=is_error)

    @contextlib.asynccontextmanager
    async def stand_open(self, request: Request, scope: Scope) -> AsyncIterator[Visit]:
        """For who is let in without being asked who he is."""
        arrival = self._arrival(request, scope)
        yield Visit(self._guard, arrival, Caller(address=arrival.address), [])

    async def look_in(self, request: Request, scope: Scope) -> Visit:
        """For the page, which asks every two seconds: of who may see it nothing is counted.

        Raises RequestFailure.
        """
        arrival = replace(self._arrival(request, scope), is_copy=True)
        passage = await self._guard.admit(arrival)
        await self._guard.finish(passage, Usage(), is_error=passage.failure is not None)
        if passage.failure is not None:
            raise passage.failure
        return Visit(self._guard, arrival, passage.caller, [])

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


class NotLetIn(Exception):
    """`headers` say when it may be tried again."""

    def __init__(self, failure: RequestFailure, pairs: Pairs) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.headers = pairs
