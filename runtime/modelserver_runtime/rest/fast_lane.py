"""A short way for the requests that come most: FastAPI's own takes as long as all the rest of us.

Only a request that is right goes this way. Whatever is wrong with it, and every other route, goes
FastAPI's way, so that each error has one author; the document of the routes is FastAPI's too.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.types import Message, Receive, Scope, Send

from modelserver_runtime.errors import RequestFailure
from modelserver_runtime.rest.context import JSON, context_of, require_json
from modelserver_runtime.rest.disconnect import ClientDisconnected
from modelserver_runtime.rest.errors import CLIENT_CLOSED_REQUEST, response_of

PATHS = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/generate"})
_PARAMETERS = {"body", "request", "context"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A route whose function takes exactly a body, the request and the context."""

    route: APIRoute
    body: type[BaseModel]
    function: Callable[..., Awaitable[BaseModel | Response]]


def lanes_of(routers: Iterable[APIRouter]) -> Mapping[str, Lane]:
    routes = [route for router in routers for route in router.routes]
    found = [lane for route in routes if isinstance(route, APIRoute) and (lane := _lane(route))]
    return {lane.route.path: lane for lane in found}


def _lane(route: APIRoute) -> Lane | None:
    """None for a route that needs more than this way offers."""
    signature = inspect.signature(route.endpoint, eval_str=True).parameters
    needs = {dependency.dependency for dependency in route.dependencies}
    if route.path not in PATHS or signature.keys() != _PARAMETERS or needs != {require_json}:
        return None
    return Lane(route=route, body=signature["body"].annotation, function=route.endpoint)


class FastLane:
    """In front of an application whose routes the lanes are."""

    def __init__(self, app: FastAPI, lanes: Mapping[str, Lane]) -> None:
        self._app = app
        self._lanes = lanes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        lane = self._lanes.get(scope.get("path", ""))
        if lane is None or scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["app"] = self._app
        request = Request(scope, receive)
        if request.headers.get("content-type") != JSON:
            await self._app(scope, receive, send)
            return
        content = await request.body()
        try:
            body = lane.body.model_validate_json(content)
        except (ValidationError, RequestFailure):
            await self._app(scope, _again(content, receive), send)
            return
        await _answer(lane, body, request, send)


def _again(content: bytes, receive: Receive) -> Receive:
    """The body once more for somebody else, and then what comes after it."""
    messages: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


async def _answer(lane: Lane, body: BaseModel, request: Request, send: Send) -> None:
    scope, receive = request.scope, request.receive
    scope["route"] = lane.route
    try:
        context = await context_of(request)
        answer = await lane.function(body=body, request=request, context=context)
        response = answer if isinstance(answer, Response) else _response(answer)
        await response(scope, receive, send)
    except RequestFailure as failure:
        # A stream fails in this way only before its first event.
        await response_of(failure, scope["path"])(scope, receive, send)
    except ClientDisconnected:
        await Response(status_code=CLIENT_CLOSED_REQUEST)(scope, receive, send)


def _response(answer: Any) -> Response:
    return Response(answer.model_dump_json(), media_type=JSON)
