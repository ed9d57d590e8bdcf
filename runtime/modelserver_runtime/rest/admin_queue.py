"""/admin/queue: who waits for a turn, and what became of the others."""

from dataclasses import asdict

from fastapi import APIRouter

from modelserver_runtime.models.served import ServedModel
from modelserver_runtime.rest.context import Context
from modelserver_runtime.rest.schemas.queue import ModelQueue, QueueStats

router = APIRouter(tags=["Admin"], prefix="/admin/queue")


@router.get("/stats")
async def describe_queue(context: Context) -> QueueStats:
    settings = context.settings
    return QueueStats(
        scope=settings.queue_scope,
        max_waiting=settings.max_waiting,
        timeout_seconds=settings.queue_timeout_seconds,
        models=[_of_model(model) for model in context.models if model.is_in_memory],
    )


def _of_model(model: ServedModel) -> ModelQueue:
    gate = model.service.gate
    circuits = {str(failure): str(state) for failure, state in gate.circuits().items()}
    return ModelQueue.model_validate(
        {"model": model.name, "circuits": circuits, **asdict(gate.statistics())}
    )
