"""A request's caller, for routes that want to know: `caller: Caller`."""

from typing import Annotated, Final

from fastapi import Depends, Request

from modelserver_runtime.access.caller import Caller as AccessCaller

# Where an ASGI scope has the caller of a request; `rest.protection` puts it there.
CALLER: Final = "modelserver.caller"


async def _caller(request: Request) -> AccessCaller:
    """Nobody on public routes, whose scope says nothing."""
    caller: AccessCaller = request.scope.get(CALLER) or AccessCaller()
    return caller


type Caller = Annotated[AccessCaller, Depends(_caller)]
