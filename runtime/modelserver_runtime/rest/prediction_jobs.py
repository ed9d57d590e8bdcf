"""/batch-predict with `mode: async`: a job instead of an answer, and what came of it."""

import json
from typing import Any, Literal

from fastapi import APIRouter
from starlette.types import ASGIApp

from modelserver_runtime.rest.context import Context, ServerContext
from modelserver_runtime.rest.jobs.background import Job
from modelserver_runtime.rest.jobs.calls import Call
from modelserver_runtime.rest.jobs.owner import Owner
from modelserver_runtime.rest.ownership import JobOwner
from modelserver_runtime.rest.schemas.errors import ErrorDetail
from modelserver_runtime.rest.schemas.tasks import BatchEnvelope, BatchPrediction
from modelserver_runtime.tasks.fields import Answer

ROUTE = "/batch-predict"
router = APIRouter(tags=["Tasks"])


class PredictionJob(Answer):
    """`result` is there when it is completed, `error` when it has failed."""

    id: str
    object: Literal["prediction.job"] = "prediction.job"
    status: Literal["queued", "running", "completed", "failed", "cancelled"]
    created_at: int
    ended_at: int | None
    result: BatchPrediction | None = None
    error: ErrorDetail | None = None


def start_prediction(
    body: BatchEnvelope, asgi: ASGIApp, owner: Owner, context: ServerContext
) -> PredictionJob:
    """Sends the same body to the same route, to be answered when the model has time."""
    content = {**body.model_dump(mode="json"), "mode": "sync"}
    call = Call(path=ROUTE, content=json.dumps(content).encode(), owner=owner)
    return _described(context.jobs.background.start(call, asgi))


@router.get(ROUTE + "/{job_id}")
async def retrieve_prediction(job_id: str, owner: JobOwner, context: Context) -> PredictionJob:
    return _described(context.jobs.background.find(owner.tenant, job_id))


def _described(job: Job) -> PredictionJob:
    answer: dict[str, Any] = json.loads(job.answer.content) if job.answer else {}
    return PredictionJob(
        id=job.id,
        status=job.status,
        created_at=job.created_at,
        ended_at=job.ended_at,
        result=BatchPrediction.model_validate(answer) if job.status == "completed" else None,
        error=ErrorDetail.model_validate(answer["error"]) if job.status == "failed" else None,
    )
