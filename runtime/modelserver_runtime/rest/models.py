"""/v1/models."""

from fastapi import APIRouter

from modelserver_runtime.rest.context import Context, ServerContext
from modelserver_runtime.rest.schemas.models import ModelCard, ModelList

router = APIRouter(tags=["OpenAI"])


@router.get("/v1/models")
async def list_models(context: Context) -> ModelList:
    return ModelList(data=[_card(context, name) for name in context.settings.api_names])


@router.get("/v1/models/{name:path}")
async def retrieve_model(name: str, context: Context) -> ModelCard:
    context.require_model(name)
    return _card(context, name)


def _card(context: ServerContext, name: str) -> ModelCard:
    settings, service = context.settings, context.service
    return ModelCard(
        id=name,
        created=context.created,
        root=settings.model_uri or str(settings.model_directory),
        revision=settings.model_revision,
        task=service.description.task,
        max_model_len=service.max_model_length,
    )
