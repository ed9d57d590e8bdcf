"""/predict and /batch-predict: every task that is neither generation nor embedding."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from modelserver_runtime.backends.base import TaskItem
from modelserver_runtime.engine.service import ModelService
from modelserver_runtime.errors import RequestFailure, UnsupportedModel
from modelserver_runtime.rest.context import JSON, Context, NeedsJson
from modelserver_runtime.rest.disconnect import until_disconnect
from modelserver_runtime.rest.errors import detail_of
from modelserver_runtime.rest.ownership import JobOwner
from modelserver_runtime.rest.prediction_jobs import PredictionJob, start_prediction
from modelserver_runtime.rest.schemas.tasks import (
    BatchEnvelope,
    BatchPrediction,
    BatchResult,
    Prediction,
)
from modelserver_runtime.rest.task_inputs import item_of, items_of, read_envelope
from modelserver_runtime.tasks import TaskDefinition, find_task

router = APIRouter(tags=["Tasks"])


@router.post("/predict")
async def predict(request: Request, context: Context) -> Prediction:
    """JSON; or a file as the body, with parameters in the query; or a form with files."""
    ticket = context.ticket()
    envelope = await read_envelope(request)
    service = (await context.model(envelope.model, deadline=ticket.deadline)).service
    engine = service.tasks
    item = item_of(task_of(service), request, envelope)
    [answer] = await until_disconnect(request.receive, engine.run([item], ticket))
    if isinstance(answer, RequestFailure):
        raise answer
    return Prediction(task=service.description.task, output=answer)


@router.post(
    "/batch-predict",
    dependencies=[NeedsJson],
    response_model=BatchPrediction,
    responses={202: {"model": PredictionJob, "description": "A job, with mode: async"}},
)
async def batch_predict(
    body: BatchEnvelope, request: Request, owner: JobOwner, context: Context
) -> BatchPrediction | Response:
    """Each input succeeds or fails by itself; results are in the order of the inputs."""
    ticket = context.ticket()
    context.require_few(len(body.inputs), "inputs")
    if body.mode == "async":
        job = start_prediction(body, request.app.state.whole, owner, context)
        return Response(job.model_dump_json(), status_code=202, media_type=JSON)
    service = (await context.model(body.model, deadline=ticket.deadline)).service
    engine = service.tasks
    items = items_of(task_of(service), body)
    good = [item for item in items if isinstance(item, TaskItem)]
    answers = iter(await until_disconnect(request.receive, engine.run(good, ticket)))
    outcomes = [next(answers) if isinstance(item, TaskItem) else item for item in items]
    return BatchPrediction(
        task=service.description.task,
        results=[_result(index, outcome) for index, outcome in enumerate(outcomes)],
    )


def task_of(service: ModelService) -> TaskDefinition:
    task = find_task(service.description.task)
    if task is None:
        raise UnsupportedModel(f"There is no task {service.description.task}")
    return task


def _result(index: int, outcome: Any) -> BatchResult:
    if isinstance(outcome, RequestFailure):
        return BatchResult(index=index, error=detail_of(outcome))
    return BatchResult(index=index, output=outcome)
