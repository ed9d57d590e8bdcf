"""The routes of the Open Inference Protocol, version 2."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from modelserver_runtime import __version__
from modelserver_runtime.engine.answering import Generator
from modelserver_runtime.engine.engine import Deltas
from modelserver_runtime.engine.request import GenerationRequest, Ticket
from modelserver_runtime.errors import InvalidRequest, ModelNotFound
from modelserver_runtime.models.served import ModelState, ServedModel
from modelserver_runtime.rest.collecting import collect
from modelserver_runtime.rest.context import JSON, Context, NeedsJson, ServerContext
from modelserver_runtime.rest.disconnect import until_disconnect
from modelserver_runtime.rest.generate import generation_of_text
from modelserver_runtime.rest.inference_v2.functions import Call, function_of
from modelserver_runtime.rest.inference_v2.schemas import (
    GenerateV2Answer,
    GenerateV2Request,
    IndexEntry,
    IndexRequest,
    InferResponse,
    Live,
    ModelMetadata,
    ModelNames,
    ModelReady,
    Ready,
    ServerMetadata,
)
from modelserver_runtime.rest.inference_v2.wire import read_inference, write_inference
from modelserver_runtime.rest.stream import Event, EventStream

router = APIRouter(tags=["Open Inference Protocol"])

_EXTENSIONS = ["binary_tensor_data", "generate", "model_repository"]
_MODEL = "/v2/models/{name:path}"
_VERSION = f"{_MODEL}/versions/{{version}}"
# The states of Triton's repository; a model that may not be used has a reason.
_STATES = {
    ModelState.UNLOADED: "UNAVAILABLE",
    ModelState.LOADING: "LOADING",
    ModelState.READY: "READY",
    ModelState.DRAINING: "UNLOADING",
    ModelState.FAILED: "UNAVAILABLE",
}


@router.get("/v2")
async def server_metadata() -> ServerMetadata:
    return ServerMetadata(name="modelserver-runtime", version=__version__, extensions=_EXTENSIONS)


@router.get("/v2/health/live", response_model=Live, responses={503: {"model": Live}})
async def live(context: Context) -> Response:
    is_well = context.lifecycle.liveness().is_well
    return _json(Live(live=is_well), 200 if is_well else 503)


@router.get("/v2/health/ready", response_model=Ready, responses={503: {"model": Ready}})
async def ready(context: Context) -> Response:
    is_well = context.lifecycle.readiness().is_well
    return _json(Ready(ready=is_well), 200 if is_well else 503)


@router.get("/v2/models")
async def model_names(context: Context) -> ModelNames:
    return ModelNames(models=[name for model in context.usable_models for name in model.names])


@router.get(f"{_VERSION}/ready", response_model=ModelReady, responses={503: {"model": ModelReady}})
async def version_ready(name: str, version: str, context: Context) -> Response:
    return _model_ready(_find(context, name, version), name)


@router.get(f"{_MODEL}/ready", response_model=ModelReady, responses={503: {"model": ModelReady}})
async def model_ready(name: str, context: Context) -> Response:
    """Whether it would answer without being loaded first."""
    return _model_ready(_find(context, name), name)


@router.get(_VERSION)
async def version_metadata(name: str, version: str, context: Context) -> ModelMetadata:
    return _metadata(_find(context, name, version), name)


@router.get(_MODEL)
async def model_metadata(name: str, context: Context) -> ModelMetadata:
    return _metadata(_find(context, name), name)


# The schema stands among the document's own; see `rest.openapi`.
_TENSORS: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": {"$ref": "#/components/schemas/InferRequest"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    },
}


@router.post(f"{_VERSION}/infer", response_model=InferResponse, openapi_extra=_TENSORS)
async def infer_version(name: str, version: str, request: Request, context: Context) -> Response:
    return await _infer(name, version, request, context)


@router.post(f"{_MODEL}/infer", response_model=InferResponse, openapi_extra=_TENSORS)
async def infer(name: str, request: Request, context: Context) -> Response:
    """Tensors in JSON, or as bytes behind it: then with Inference-Header-Content-Length."""
    return await _infer(name, None, request, context)


@router.post(
    f"{_VERSION}/generate_stream", response_model=GenerateV2Answer, dependencies=[NeedsJson]
)
async def generate_stream_of_version(
    name: str, version: str, body: GenerateV2Request, context: Context
) -> Response:
    return await _generate_stream(name, version, body, context)


@router.post(f"{_MODEL}/generate_stream", response_model=GenerateV2Answer, dependencies=[NeedsJson])
async def generate_stream(name: str, body: GenerateV2Request, context: Context) -> Response:
    """Server-sent events, each with the text that is new."""
    return await _generate_stream(name, None, body, context)


@router.post(f"{_VERSION}/generate", dependencies=[NeedsJson])
async def generate_of_version(
    name: str, version: str, body: GenerateV2Request, request: Request, context: Context
) -> GenerateV2Answer:
    return await _generate(name, version, body, request, context)


@router.post(f"{_MODEL}/generate", dependencies=[NeedsJson])
async def generate(
    name: str, body: GenerateV2Request, request: Request, context: Context
) -> GenerateV2Answer:
    return await _generate(name, None, body, request, context)


@router.post("/v2/repository/index")
async def repository_index(context: Context, body: IndexRequest | None = None) -> list[IndexEntry]:
    entries = [_entry(model, name) for model in context.usable_models for name in model.names]
    only_ready = body is not None and body.ready
    return [entry for entry in entries if entry.state == "READY" or not only_ready]


@router.post("/v2/repository/models/{name:path}/load")
async def load_model(name: str, context: Context) -> dict[str, str]:
    """Returns when the model has answered once."""
    model = context.find(name)
    latest = context.clock() + context.settings.model_load_timeout_seconds
    await context.models.load(model, deadline=latest)
    return {}


@router.post("/v2/repository/models/{name:path}/unload")
async def unload_model(name: str, context: Context) -> dict[str, str]:
    await context.models.unload(context.find(name))
    return {}


def _find(context: ServerContext, name: str, version: str | None = None) -> ServedModel:
    model = context.find(name)
    own = _version_of(model)
    if version is not None and version != own:
        raise ModelNotFound(
            f"The model {name!r} has no version {version!r}; its version is {own}", param="version"
        )
    return model


def _version_of(model: ServedModel) -> str:
    """The commit of its files where that is known."""
    return model.settings.model_revision or "1"


def _head(model: ServedModel, name: str, request_id: str | None) -> dict[str, Any]:
    head = {"model_name": name, "model_version": _version_of(model)}
    return head if request_id is None else {**head, "id": request_id}


def _metadata(model: ServedModel, name: str) -> ModelMetadata:
    """Only of a model in memory: before, nobody knows its task; then NotReady."""
    description = model.service.description
    function = function_of(description.task)
    return ModelMetadata(
        name=name,
        versions=[_version_of(model)],
        platform=f"{description.architecture}_transformers",
        inputs=list(function.inputs),
        outputs=list(function.outputs),
    )


def _model_ready(model: ServedModel, name: str) -> Response:
    is_well = model.lifecycle.readiness().is_well
    return _json(ModelReady(name=name, ready=is_well), 200 if is_well else 503)


def _json(content: Live | Ready | ModelReady, status: int) -> Response:
    return Response(content.model_dump_json(), status_code=status, media_type=JSON)


async def _infer(
    name: str, version: str | None, request: Request, context: ServerContext
) -> Response:
    ticket = context.ticket()
    _find(context, name, version)
    inference = await read_inference(request)
    if inference.model_name not in {None, name}:
        raise InvalidRequest(
            f"model_name is {inference.model_name!r}, and the path names {name!r}",
            param="model_name",
        )
    _find(context, name, inference.model_version)
    model = await context.model(name, deadline=ticket.deadline)
    function = function_of(model.service.description.task)
    call = Call(context=context, model=model, ticket=ticket, inference=inference)
    outputs = await until_disconnect(request.receive, function.run(call))
    return write_inference(inference, outputs, _head(model, name, inference.id))


async def _generate(
    name: str,
    version: str | None,
    body: GenerateV2Request,
    request: Request,
    context: ServerContext,
) -> GenerateV2Answer:
    ticket = context.ticket()
    _find(context, name, version)
    model = await context.model(name, deadline=ticket.deadline)
    engine = model.service.generation
    prepared = await generation_of_text(body.text_input, body.parameters, context, engine)
    [answer] = await until_disconnect(request.receive, collect(engine, [prepared], ticket))
    return GenerateV2Answer(
        **_head(model, name, body.id),
        text_output=answer.text,
        finish_reason=answer.finish_reason.value,
    )


async def _generate_stream(
    name: str, version: str | None, body: GenerateV2Request, context: ServerContext
) -> Response:
    ticket = context.ticket()
    _find(context, name, version)
    model = await context.model(name, deadline=ticket.deadline)
    engine = model.service.generation
    prepared = await generation_of_text(body.text_input, body.parameters, context, engine)
    return EventStream(_events(engine, prepared, ticket, _head(model, name, body.id)))


@asynccontextmanager
async def _events(
    engine: Generator, request: GenerationRequest, ticket: Ticket, head: dict[str, Any]
) -> AsyncGenerator[AsyncIterator[Event]]:
    async with engine.open([request], ticket) as deltas:
        yield _pieces(deltas, head)


async def _pieces(deltas: Deltas, head: dict[str, Any]) -> AsyncIterator[Event]:
    async for _, delta in deltas:
        yield {**head, "text_output": delta.text, "finish_reason": delta.finish_reason}


def _entry(model: ServedModel, name: str) -> IndexEntry:
    failure = model.load_failure
    return IndexEntry(
        name=name,
        version=_version_of(model),
        state=_STATES[model.state],
        reason="" if failure is None else str(failure.failure),
    )
