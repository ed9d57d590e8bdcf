"""The page's requests: let in by what they need, and answered from what is known here."""

import logging

from modelserver_runtime.errors import RequestFailure
from modelserver_runtime.gateway import headers
from modelserver_runtime.gateway.body import ClientGone, Receive
from modelserver_runtime.gateway.front.asking import FrontBody
from modelserver_runtime.gateway.front.door import Door, Visit
from modelserver_runtime.gateway.front.failures import answer_to
from modelserver_runtime.gateway.front.reply import Reply
from modelserver_runtime.gateway.page.overview import Looker
from modelserver_runtime.gateway.page.page import Asked, Page
from modelserver_runtime.gateway.refusal import Refused
from modelserver_runtime.gateway.request import Request

log = logging.getLogger(__name__)

# What a key may do is said in a few hundred bytes.
_MOST_BODY_BYTES = 16 << 10
_BODY_SECONDS = 10.0
_CHALLENGE = (b"www-authenticate", b'Bearer realm="modelserver"')
_NOT_AUTHENTICATED = 401


class Showing:
    def __init__(self, page: Page, door: Door) -> None:
        self._page = page
        self._door = door

    def has(self, request: Request) -> bool:
        return self._page.has(request.method, request.path)

    async def run(self, request: Request, reply: Reply, receive: Receive) -> None:
        try:
            await self._show(request, reply, receive)
        except ClientGone:
            log.debug("A client left before its answer")
        except RequestFailure as failure:
            answer = answer_to(failure)
            more = (_CHALLENGE,) if answer.status == _NOT_AUTHENTICATED else ()
            await reply.refuse(answer, *more)
        except Refused as refused:
            await reply.refuse(refused.answer)

    async def _show(self, request: Request, reply: Reply, receive: Receive) -> None:
        asked = _asked(request)
        scope = self._page.scope(asked)
        looker = Looker(may_use=lambda _: True)
        if scope is not None:
            visit = await self._door.look_in(request, scope)
            looker = _looker(visit)
        if request.method == "POST":
            asked = _asked(request, await _whole(receive))
        shown = await self._page.show(asked, looker)
        await reply.whole(shown.status, shown.content, shown.headers)


def _looker(visit: Visit) -> Looker:
    return Looker(may_use=visit.may_use, rights=visit.rights, is_admin=visit.is_admin)


def _asked(request: Request, body: bytes = b"") -> Asked:
    return Asked(
        method=request.method,
        path=request.path,
        query=request.target.partition(b"?")[2].decode("latin-1"),
        known_tag=next(iter(headers.values_of(request.headers, "if-none-match")), ""),
        body=body,
    )


async def _whole(receive: Receive) -> bytes:
    body = FrontBody(receive, _MOST_BODY_BYTES, _BODY_SECONDS)
    while body.has_more:
        await body.read_ahead()
    return body.take_ahead()
