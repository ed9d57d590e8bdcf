"""Whose a job is, and with whose rights it runs."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from modelserver_runtime.rest.caller import Caller

# What tells who a caller is. Kept in memory for as long as the job runs, and never written down.
_CREDENTIALS = frozenset({b"authorization", b"x-api-key"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A job's requests carry the credentials of the request that began it.

    So limits count, and a key that was revoked since then ends it.
    """

    tenant: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    client: tuple[str, int] | None = None


async def _owner(request: Request, caller: Caller) -> Owner:
    headers = [pair for pair in request.scope["headers"] if pair[0] in _CREDENTIALS]
    client = request.scope.get("client")
    return Owner(
        tenant=caller.tenant,
        headers=tuple(headers),
        client=client and (client[0], client[1]),
    )


type JobOwner = Annotated[Owner, Depends(_owner)]
