"""/v1/responses."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import ValidationError

from modelserver_runtime.errors import InvalidRequest, RequestFailure
from modelserver_runtime.rest.context import Context, NeedsJson, ServerContext
from modelserver_runtime.rest.disconnect import until_disconnect
from modelserver_runtime.rest.errors import invalid_request
from modelserver_runtime.rest.jobs.background import Job
from modelserver_runtime.rest.jobs.calls import Call
from modelserver_runtime.rest.jobs.owner import Owner
from modelserver_runtime.rest.jobs.responses import StoredResponse
from modelserver_runtime.rest.ownership import JobOwner
from modelserver_runtime.rest.paging import page_of
from modelserver_runtime.rest.responding.progress import ResponseProgress, new_response
from modelserver_runtime.rest.responding.translation import (
    LOGPROBS,
    PARAMS,
    Item,
    chat_of,
    input_items,
)
from modelserver_runtime.rest.schemas.generation import ChatRequest
from modelserver_runtime.rest.schemas.responses import (
    ResponseDeleted,
    ResponseError,
    ResponseItems,
    ResponseObject,
    ResponsesRequest,
)
from modelserver_runtime.rest.stream import EventStream
from modelserver_runtime.rest.turn import Turn, prepare_turn

_ROUTE = "/v1/responses"
router = APIRouter(prefix=_ROUTE, tags=["OpenAI"])

_MOST_LISTED = 100


@router.post("", response_model=ResponseObject, dependencies=[NeedsJson])
async def create_response(
    body: ResponsesRequest, request: Request, owner: JobOwner, context: Context
) -> ResponseObject | Response:
    if body.background:
        return _in_background(body, request, owner, context)
    progress = await _prepare(body, owner, context)
    if body.stream:
        return EventStream(progress.open())
    return await until_disconnect(request.receive, progress.whole())


def _history(body: ResponsesRequest, owner: Owner, context: ServerContext) -> Sequence[Item]:
    if body.previous_response_id is None:
        return ()
    before = context.jobs.responses.find(
        owner.tenant, body.previous_response_id, "previous_response_id"
    )
    return before.conversation


async def _prepare(
    body: ResponsesRequest, owner: Owner, context: ServerContext
) -> ResponseProgress:
    history, inputs = _history(body, owner, context), input_items(body)

    def keep(response: ResponseObject) -> None:
        if response.store:
            stored = StoredResponse(
                tenant=owner.tenant, response=response, history=history, inputs=inputs
            )
            context.jobs.responses.keep(stored)

    return ResponseProgress(
        turn=await _turn(_chat(body, [*history, *inputs]), context),
        response=new_response(body, int(context.wall_clock())),
        wall_clock=context.wall_clock,
        wants_logprobs=LOGPROBS in (body.include or ()),
        keep=keep,
    )


def _chat(body: ResponsesRequest, items: Sequence[Item]) -> ChatRequest:
    try:
        return chat_of(body, items)
    except ValidationError as error:
        problems = [{**problem, "loc": ("body", *problem["loc"])} for problem in error.errors()]
        raise _translated(invalid_request(problems)) from error


async def _turn(chat: ChatRequest, context: ServerContext) -> Turn:
    ticket = context.ticket(tier=chat.service_tier)
    model = await context.model(chat.model, deadline=ticket.deadline)
    try:
        return await prepare_turn(chat, context, model.service.generation, ticket)
    except RequestFailure as failure:
        raise _translated(failure) from failure


def _translated[Failure: RequestFailure](failure: Failure) -> Failure:
    """Names the field that this route's client knows."""
    head, *rest = (failure.param or "").split(".", 1)
    if head in PARAMS:
        failure.param = ".".join([PARAMS[head], *rest])
    return failure


def _in_background(
    body: ResponsesRequest, request: Request, owner: Owner, context: ServerContext
) -> ResponseObject:
    if body.stream or body.store is False:
        wrong = "stream" if body.stream else "store"
        raise InvalidRequest(
            "A response in the background is stored, and fetched when it is done; "
            f"leave {wrong} away",
            param=wrong,
        )
    queued = new_response(body, int(context.wall_clock()))
    queued = queued.model_copy(update={"status": "queued"})
    stored = StoredResponse(
        tenant=owner.tenant,
        response=queued,
        history=_history(body, owner, context),
        inputs=input_items(body),
    )
    fields = body.model_dump(exclude_unset=True, by_alias=True, mode="json")
    content = json.dumps({**fields, "background": False, "store": False}).encode()
    call = Call(path=_ROUTE, content=content, owner=owner)

    def note_end(job: Job) -> None:
        stored.response = _ended(stored.response, job)

    stored.job = context.jobs.background.start(call, request.app.state.whole, on_end=note_end)
    context.jobs.responses.keep(stored)
    return queued


def _ended(response: ResponseObject, job: Job) -> ResponseObject:
    """What the background made, under the identity that the client knows."""
    made: dict[str, Any] = json.loads(job.answer.content) if job.answer else {}
    if "error" in made and "output" not in made:
        error = ResponseError(code="server_error", message=made["error"]["message"])
        return response.model_copy(update={"status": "failed", "error": error})
    kept = response.model_dump(include={"id", "created_at", "background", "store"})
    return ResponseObject.model_validate({**made, **kept})


def _current(stored: StoredResponse) -> ResponseObject:
    if stored.job is None or stored.job.ended_at is not None:
        return stored.response
    status = "in_progress" if stored.job.status == "running" else "queued"
    return stored.response.model_copy(update={"status": status})


@router.get("/{response_id}")
async def retrieve_response(response_id: str, owner: JobOwner, context: Context) -> ResponseObject:
    return _current(context.jobs.responses.find(owner.tenant, response_id))


@router.delete("/{response_id}")
async def delete_response(response_id: str, owner: JobOwner, context: Context) -> ResponseDeleted:
    stored = context.jobs.responses.delete(owner.tenant, response_id)
    if stored.job is not None:
        context.jobs.background.cancel(stored.job)
    return ResponseDeleted(id=response_id)


@router.post("/{response_id}/cancel")
async def cancel_response(response_id: str, owner: JobOwner, context: Context) -> ResponseObject:
    """Ends a response in the background; one that has ended stays as it is."""
    stored = context.jobs.responses.find(owner.tenant, response_id)
    if stored.job is None:
        raise InvalidRequest("Only a response that was made with background: true is cancelled")
    if stored.job.ended_at is None:
        context.jobs.background.cancel(stored.job)
        stored.response = stored.response.model_copy(update={"status": "cancelled"})
    return stored.response


@router.get("/{response_id}/input_items")
async def list_input_items(
    response_id: str,
    owner: JobOwner,
    context: Context,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=_MOST_LISTED)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> ResponseItems:
    """Also those of the responses before it."""
    stored = context.jobs.responses.find(owner.tenant, response_id)
    items = [*stored.history, *stored.inputs]
    ids = [item["id"] for item in items]
    ordered = ids if order == "asc" else ids[::-1]
    shown, has_more = page_of(ordered, after=after, limit=limit)
    by_id = dict(zip(ids, items, strict=True))
    return ResponseItems(
        data=[by_id[item_id] for item_id in shown],
        first_id=shown[0] if shown else None,
        last_id=shown[-1] if shown else None,
        has_more=has_more,
    )
