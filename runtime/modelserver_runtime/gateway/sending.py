"""A request on one connection: what is still to come of its body, and the client's leaving."""

import asyncio
from collections.abc import Callable

from modelserver_runtime.gateway.body import Body
from modelserver_runtime.gateway.pool import Pool
from modelserver_runtime.gateway.request import LAST_CHUNK, Request, chunk_of
from modelserver_runtime.gateway.upstream import Connection, Head


class Sending:
    """`note` is given each part of the body that is passed on."""

    def __init__(
        self,
        pool: Pool,
        connection: Connection,
        request: Request,
        body: Body,
        note: Callable[[bytes], None] | None = None,
    ) -> None:
        self.connection = connection
        self._pool = pool
        self._request = request
        self._body = body
        self._note = note
        self._inbound: asyncio.Task[None] | None = None
        self._is_sent = not body.has_more
        self._is_over = False

    async def ask(self, content: bytes, seconds: float) -> Head:
        """`content` is the head with what has come of the body; raises UpstreamFailure."""
        self.connection.ask(self._request.method, content)
        self._inbound = asyncio.create_task(self._feed())
        return await self.connection.head(seconds)

    async def _feed(self) -> None:
        """Sends what is still to come of the body, then waits for the client to go."""
        try:
            while self._body.has_more:
                part = await self._body.read()
                if self._note is not None:
                    self._note(part)
                self.connection.write(chunk_of(part) if self._request.is_chunked else part)
                if not self._body.has_more and self._request.is_chunked:
                    self.connection.write(LAST_CHUNK)
                await self.connection.drain()
            self._is_sent = True
            await self._body.until_gone()
        except Exception as error:  # noqa: BLE001  ClientGone, or too large: whoever waits is told
            self.connection.fail(error)

    def end(self) -> None:
        """Before the last piece is sent, after which the client's silence is no news any more.

        Only the first time means anything.
        """
        if self._is_over:
            return
        self._is_over = True
        if self._inbound is not None:
            self._inbound.cancel()
        if self._is_sent:
            self._pool.give_back(self.connection)
        else:
            self.connection.close()
