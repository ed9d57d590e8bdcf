"""One request: whether it waits, who answers it, and what is said when nobody does."""

import logging
from typing import Protocol

from modelserver_runtime.errors import UpstreamFailure
from modelserver_runtime.gateway.body import Body, ClientGone, Receive, Send
from modelserver_runtime.gateway.choice import Asker
from modelserver_runtime.gateway.hold import Holder
from modelserver_runtime.gateway.mirror import Mirroring
from modelserver_runtime.gateway.passing import Passing, Way
from modelserver_runtime.gateway.passing import Surroundings as PassingSurroundings
from modelserver_runtime.gateway.refusal import (
    RETRY_SECONDS,
    Answer,
    Refused,
    answer_to_upstream,
    send_refusal,
)
from modelserver_runtime.gateway.request import Request

log = logging.getLogger(__name__)

_NO_ROUTE = Answer(
    status=503,
    code="no_route",
    message="This router has not been told yet where to send requests; try again soon",
    retry_after_seconds=RETRY_SECONDS,
)


class Surroundings(PassingSurroundings, Protocol):
    """What an exchange needs of the router."""

    way: Way | None
    holder: Holder
    mirroring: Mirroring


class Exchange:
    def __init__(self, router: Surroundings, request: Request, send: Send) -> None:
        self._router = router
        self._request = request
        self._send = send

    async def run(self, receive: Receive) -> None:
        body = Body(receive)
        try:
            await body.read_ahead()
            if self._router.holder.is_needed:
                await self._wait_and_pass(body)
            else:
                await self._pass(body)
        except ClientGone:
            self._router.tally.clients_gone += 1
        except Refused as refused:
            await self._refuse(refused.answer)

    async def _wait_and_pass(self, body: Body) -> None:
        await self._router.holder.wait(self._request, body)
        try:
            await self._pass(body)
        finally:
            self._router.holder.done()

    async def _pass(self, body: Body) -> None:
        way = self._router.way
        if way is None:
            raise Refused(_NO_ROUTE)
        asker = Asker(headers=self._request.headers, address=self._request.peer)
        choice = way.chooser.choose(asker)
        passing = Passing(self._router, way, choice, self._request, self._send)
        passing.recording = self._router.mirroring.record(way, choice, self._request)
        try:
            await passing.run(body)
        except UpstreamFailure as failure:
            log.warning("A request got no whole answer", extra={"fields": passing.fields(failure)})
            # An answer that has begun is cut off: uvicorn closes the connection, so that the
            # client does not take it for a whole one.
            if not passing.status:
                await self._refuse(answer_to_upstream(failure))
        finally:
            self._compare(way, passing)

    def _compare(self, way: Way, passing: Passing) -> None:
        if passing.recording is None:
            return
        if not passing.is_complete:
            passing.recording.give_up("notAnswered")
        self._router.mirroring.finish(way, self._request, passing.recording)

    async def _refuse(self, answer: Answer) -> None:
        self._router.tally.refused[answer.code] += 1
        await send_refusal(
            self._send,
            answer,
            path=self._request.path,
            identity=self._request.identity,
            is_last=self._router.is_draining,
        )
