"""The models of this server: for OpenAI's clients, and for those who look after them."""

from fastapi import APIRouter

from modelserver_runtime.models.served import ServedModel
from modelserver_runtime.rest.context import Context, NeedsJson, ServerContext
from modelserver_runtime.rest.model_reports import report_of, reports_of
from modelserver_runtime.rest.schemas.models import (
    LoadAnswer,
    ModelCard,
    ModelChoice,
    ModelList,
    ModelReports,
    UnloadAnswer,
)
from modelserver_runtime.settings import Task

router = APIRouter()


@router.get("/v1/models", tags=["OpenAI"])
async def list_models(context: Context) -> ModelList:
    """Those that the caller may use."""
    cards = [_card(context, model, name) for model in context.usable_models for name in model.names]
    return ModelList(data=cards)


@router.get("/v1/models/{name:path}", tags=["OpenAI"])
async def retrieve_model(name: str, context: Context) -> ModelCard:
    return _card(context, context.find(name), name)


@router.get("/models", tags=["Models"])
async def describe_models(context: Context) -> ModelReports:
    """Every model that the server knows: its state, its size, who uses it, why it failed."""
    return reports_of(context)


@router.post("/models/load", tags=["Models"], dependencies=[NeedsJson])
async def load_model(body: ModelChoice, context: Context) -> LoadAnswer:
    """Returns when the model has answered once; at once if it is in memory."""
    began = context.clock()
    model = context.find(body.model)
    was_loaded = model.is_in_memory
    await context.models.load(model, deadline=began + context.settings.model_load_timeout_seconds)
    return LoadAnswer(
        model=report_of(context, model), was_loaded=was_loaded, seconds=context.clock() - began
    )


@router.post("/models/unload", tags=["Models"], dependencies=[NeedsJson])
async def unload_model(body: ModelChoice, context: Context) -> UnloadAnswer:
    """Waits for the model's requests; those that come meanwhile wait too, and load it again."""
    model = context.find(body.model)
    was_loaded = await context.models.unload(model)
    return UnloadAnswer(model=report_of(context, model), was_loaded=was_loaded)


def _card(context: ServerContext, model: ServedModel, name: str) -> ModelCard:
    """The primary is known only when it is loaded: until then, NotReady."""
    settings = model.settings
    if model.keeping.is_primary:
        _ = model.service
    service = model.lifecycle.current
    configured = None if settings.task == Task.AUTO else str(settings.task)
    return ModelCard(
        id=name,
        created=context.created,
        root=settings.model_uri or str(settings.model_directory),
        revision=settings.model_revision,
        task=str(service.description.task) if service else configured,
        max_model_len=service.max_model_length if service else None,
    )
