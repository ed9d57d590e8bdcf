"""Whether revisions can be reached from here, which is later than when their pods are ready.

A pod's readiness is written to an EndpointSlice, from which each node makes rules for the Service's
address, at its own pace. Only a connection tells that this node has them.
"""

import asyncio
from collections.abc import Iterable

from modelserver_runtime.errors import UpstreamUnreachable
from modelserver_runtime.gateway.pool import Pool

# The first packet decides where a connection leads: one that was sent before there were rules is
# lost, and so is whatever repeats it. So the first tries are short; a busy node gets longer ones.
_FIRST_TRY_SECONDS = 1.0
_LONGEST_TRY_SECONDS = 5.0
_PAUSE_SECONDS = 0.1


async def until_reachable(pools: Iterable[Pool]) -> None:
    """Returns when a connection to each could be made, which is then kept for a request."""
    await asyncio.gather(*map(_until_connected, pools))


async def _until_connected(pool: Pool) -> None:
    seconds = _FIRST_TRY_SECONDS
    while True:
        try:
            await pool.connect_ahead(seconds)
        except UpstreamUnreachable:
            seconds = min(2 * seconds, _LONGEST_TRY_SECONDS)
            await asyncio.sleep(_PAUSE_SECONDS)  # noqa: TID251  nobody will tell
        else:
            return
