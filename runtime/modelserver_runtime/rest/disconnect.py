"""Notices that a client has gone, and stops the work for it."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from starlette.types import Receive


class ClientDisconnected(Exception):
    """Nobody waits for the answer any more."""


async def until_disconnect[T](receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled if the client goes first.

    The request's body must have been read: the next message then is the end of the connection.
    """
    working = asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)
    if working.done():
        # What is known already needs no waiting, and nobody to watch.
        return working.result()
    watching = asyncio.ensure_future(_disconnected(receive))
    watching.add_done_callback(lambda _: working.cancel())
    try:
        # Cancelling us cancels the work too, and both wait until it has cleaned up.
        return await working
    except asyncio.CancelledError:
        if watching.done():
            raise ClientDisconnected from None
        raise
    finally:
        watching.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
