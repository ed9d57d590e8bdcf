"""Who begins a job, and may ask for it later."""

from typing import Annotated

from fastapi import Depends, Request

from modelserver_runtime.rest.context import Context
from modelserver_runtime.rest.jobs.owner import Owner

# What tells who a caller is. Kept in memory for as long as the job runs, and never written down.
_CREDENTIALS = frozenset({b"authorization", b"x-api-key"})


async def _owner(request: Request, context: Context) -> Owner:
    headers = [pair for pair in request.scope["headers"] if pair[0] in _CREDENTIALS]
    client = request.scope.get("client")
    return Owner(
        tenant=context.caller.tenant,
        headers=tuple(headers),
        client=client and (client[0], client[1]),
    )


type JobOwner = Annotated[Owner, Depends(_owner)]
