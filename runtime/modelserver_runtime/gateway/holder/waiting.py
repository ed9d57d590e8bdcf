"""One held request: its body, and the news that its turn has come."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from modelserver_runtime.gateway.body import Body


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """`announced_bytes` is the length that the client named, `seconds` how long it will wait.

    `caller` is who takes turns with the others: a key, or an address.
    """

    caller: str
    body: Body
    announced_bytes: int = 0
    seconds: float | None = None


@dataclass(slots=True, eq=False)
class Waiting:
    held: Held
    turn: "asyncio.Future[None]"
    counted_bytes: int = 0


async def read_until_gone(waiting: Waiting, count: Callable[[Waiting, int], None]) -> None:
    """The whole body, so that a client that leaves is noticed; ends only by an exception."""
    body = waiting.held.body
    while body.has_more:
        count(waiting, await body.read_ahead())
    await body.until_gone()
