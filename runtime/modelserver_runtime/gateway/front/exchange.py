"""One request: what it wants, whether it may, whether it waits, and who answers it."""

import asyncio
import logging
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from urllib.parse import quote

from modelserver_runtime.errors import InvalidRequest, RequestFailure, UpstreamFailure
from modelserver_runtime.gateway import headers
from modelserver_runtime.gateway.body import ClientGone, Receive
from modelserver_runtime.gateway.cluster import Directory, ServedModel
from modelserver_runtime.gateway.front import reports
from modelserver_runtime.gateway.front.asking import (
    Asked,
    FrontBody,
    generate_body,
    read_model,
    rename,
    too_large,
)
from modelserver_runtime.gateway.front.door import Door, NotLetIn, Visit
from modelserver_runtime.gateway.front.failures import answer_to
from modelserver_runtime.gateway.front.pods import Pods
from modelserver_runtime.gateway.front.relay import Relay
from modelserver_runtime.gateway.front.reply import Reply
from modelserver_runtime.gateway.front.routes import (
    QUICK,
    Found,
    Own,
    Route,
    found,
    required,
    scope_of,
)
from modelserver_runtime.gateway.front.scan import read
from modelserver_runtime.gateway.holder import Held, Holder
from modelserver_runtime.gateway.refusal import Answer, Refused, answer_to_upstream
from modelserver_runtime.gateway.request import Request
from modelserver_runtime.gateway.traffic import Call, Traffic

log = logging.getLogger(__name__)

# The pods end a request after the same time, and their answer says more than ours.
_GRACE_SECONDS = 5.0
# A held stream says something so often; whoever is refused at once is told so by the status.
_SAY_SECONDS = 2.0
# How long a client waits: ours, and what the official clients of OpenAI send.
_PATIENCE = ("x-request-timeout", "x-stainless-read-timeout")
_DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
# Of a route's time; the refusal, which says when to try again, takes the rest.
_REFUSED_BEFORE = 0.95
_CHALLENGE = (b"www-authenticate", b'Bearer realm="modelserver"')
_NOT_AUTHENTICATED = 401
_TOO_SLOW = 408


@dataclass(frozen=True, slots=True, kw_only=True)
class Hall:
    """What every exchange needs of the gateway.

    `has_affinity`: the beginning of a conversation decides which pod has it.
    """

    door: Door
    pods: Pods
    holder: Holder
    traffic: Traffic
    clock: Callable[[], float]
    max_body_bytes: int
    body_seconds: float
    has_affinity: bool = True


class Exchange:
    """`directory` is the one that it began with.

    `is_at_port`: it came to the port of one server, as if to that server itself.
    """

    def __init__(self, hall: Hall, directory: Directory, request: Request, reply: Reply) -> None:
        self._hall = hall
        self._directory = directory
        self._request = request
        self._reply = reply
        self.is_at_port = False
        self._call: Call | None = None

    async def run(self, find: Callable[[Directory], Route], receive: Receive) -> None:
        """`find` says what the path means; raises what RequestFailure it will."""
        try:
            await self._run(find, receive)
        finally:
            if self._call is not None:
                self._call.end(self._reply.status, self._hall.clock())

    async def _run(self, find: Callable[[Directory], Route], receive: Receive) -> None:
        try:
            await self._enter(found(self._request.path, lambda: find(self._directory)), receive)
        except NotLetIn as refusal:
            self._reply.limits = refusal.headers
            await self._refuse(answer_to(refusal.failure))
        except ClientGone:
            log.debug("A client left before its answer")
        except RequestFailure as failure:
            await self._refuse(answer_to(failure))
        except Refused as refused:
            await self._refuse(refused.answer)
        except TimeoutError:
            await self._refuse(_TIMEOUT)
        except UpstreamFailure as failure:
            log.warning("A request got no whole answer: %s", failure)
            if self._call is not None:
                self._call.is_broken = self._reply.status != 0
            await self._refuse(answer_to_upstream(failure))

    async def _enter(self, wanted: Found, receive: Receive) -> None:
        async with self._entrance(wanted.route) as visit:
            self._reply.limits = visit.headers
            # Whoever is not let in is not told what there is.
            if wanted.failure is not None:
                raise wanted.failure
            await self._answer(wanted.route, visit, receive)

    def _entrance(self, route: Route) -> AbstractAsyncContextManager[Visit]:
        door, scope = self._hall.door, scope_of(self._request.method, route)
        if route.is_public or self.is_at_port:
            return door.stand_open(self._request, scope)
        return door.open(self._request, scope)

    async def _refuse(self, answer: Answer) -> None:
        if answer.status == _TOO_SLOW:  # what is still to come nobody waits for
            self._reply.is_last_of_connection = True
        more = (_CHALLENGE,) if answer.status == _NOT_AUTHENTICATED else ()
        await self._reply.refuse(answer, *more)

    async def _answer(self, route: Route, visit: Visit, receive: Receive) -> None:
        if route.model is not None:
            visit.require(route.model)
        if route.own is not None:
            await self._own(route, visit)
            return
        most = self._hall.max_body_bytes
        if (headers.content_length(self._request.headers) or 0) > most:
            raise too_large(most)
        body = FrontBody(receive, most, self._hall.body_seconds)
        async with asyncio.timeout(route.timeout_seconds):
            await self._pass(route, visit, body)

    async def _own(self, route: Route, visit: Visit) -> None:
        content = None
        match route.own:
            case Own.HEALTH:
                content = reports.health(self._directory)
            case Own.MODELS:
                content = reports.models(self._directory, visit.may_use)
            case Own.OPENAI_MODELS:
                content = reports.openai_models(self._directory, visit.may_use)
            case Own.OPENAI_MODEL if route.model is not None:
                content = reports.openai_model(self._directory, route.model)
            case Own.STATUS if route.model is not None:
                content = reports.status(route.model, self._hall.holder.stage(route.model))
        await self._reply.json(content)

    # -- to a model ------------------------------------------------------------------------------

    async def _pass(self, route: Route, visit: Visit, body: FrontBody) -> None:
        asked = await self._read(route, body)
        model = route.model or self._named(asked)
        visit.require(model)
        self._call = self._hall.traffic.begin(model.key)
        request = self._at(route)
        if route.is_generate:
            request = await generate_body(request, body)
        elif asked.model is not None and str(model.key) == asked.model:
            request = rename(request, body, asked, self._directory.name_for_pods(asked.model))
        if not self._hall.holder.is_needed(model):
            await self._relay(model, request, body, asked)
            return
        self._reply.state = self._hall.holder.stage(model).partition(" ")[0]
        if route.path in QUICK:
            raise Refused(_ASLEEP)
        await visit.require_to_wake(model)
        await self._hold(model, body, route.timeout_seconds)
        try:
            await self._relay(model, request, body, asked)
        finally:
            self._hall.holder.done(model)

    async def _read(self, route: Route, body: FrontBody) -> Asked:
        if route.model is None:
            return await read_model(self._request, body)
        await body.read_ahead()
        return Asked(model=None)

    def _named(self, asked: Asked) -> ServedModel:
        if asked.model is not None:
            return required(asked.model, self._directory)
        if len(self._directory.servers) == 1:
            return next(iter(self._directory.servers.values()))
        raise InvalidRequest(
            "The request names no model; say it as model in a JSON body, as X-ModelServer-Model, "
            f"or in the path: /models/NAME{self._request.path}",
            param="model",
        )

    def _at(self, route: Route) -> Request:
        """The path that the pod knows, with the query that the client wrote."""
        if route.path == self._request.path:
            return self._request
        _, question, query = self._request.target.partition(b"?")
        return replace(self._request, target=_quoted(route.path) + question + query)

    async def _relay(
        self, model: ServedModel, request: Request, body: FrontBody, asked: Asked
    ) -> None:
        pods = self._hall.holder.pods(model)
        key = b""
        if self._hall.has_affinity and len(pods) > 1 and asked.scanned is not None:
            key = asked.scanned.beginning or b""
        relay = Relay(
            self._hall.pods,
            self._hall.pods.balancer(model, pods),
            request,
            key=key,
            seconds=model.timeout_seconds + _GRACE_SECONDS,
            clock=self._hall.clock,
        )
        await relay.run(body, self._reply.begin, self._reply.part)

    # -- held ------------------------------------------------------------------------------------

    async def _hold(self, model: ServedModel, body: FrontBody, most: float | None) -> None:
        held = Held(
            caller=headers.credential_of(self._request.headers) or self._request.peer,
            body=body,
            announced_bytes=headers.content_length(self._request.headers) or 0,
            seconds=_patience(self._request, most),
        )
        waiting = asyncio.ensure_future(self._hall.holder.wait(model, held))
        try:
            while not waiting.done():
                await asyncio.wait({waiting}, timeout=_SAY_SECONDS)
                if not waiting.done() and _wants_stream(self._request, body):
                    await self._reply.say_stage(self._hall.holder.stage(model))
        except BaseException:
            # A turn that has come meanwhile is given back.
            if waiting.done() and not waiting.cancelled() and not waiting.exception():
                self._hall.holder.done(model)
            raise
        finally:
            waiting.cancel()
        waiting.result()


# Probes and scrapers come by themselves; who wants an answer of the model wakes it.
_ASLEEP = Answer(
    status=503,
    code="not_ready",
    message="No pod of the model is ready; a request for an answer of the model wakes it",
    retry_after_seconds=10.0,
)
_TIMEOUT = Answer(
    status=504,
    code="upstream_timeout",
    message="The model did not answer in the time that this route has",
)


def _patience(request: Request, most: float | None) -> float | None:
    """The least that the client, or the route, says."""
    said = [] if most is None else [_REFUSED_BEFORE * most]
    values = [value for name in _PATIENCE for value in headers.values_of(request.headers, name)]
    said += [float(value) for value in values if _DECIMAL.fullmatch(value)]
    return min(said, default=None)


def _wants_stream(request: Request, body: FrontBody) -> bool:
    """Told by the body, when it has come as a whole."""
    if request.method != "POST" or body.has_more:
        return False
    try:
        return read(body.ahead).is_stream
    except InvalidRequest:
        return False


def _quoted(path: str) -> bytes:
    return quote(path, safe="/:@!$&'()*+,;=-._~").encode()
