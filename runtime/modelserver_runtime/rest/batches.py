"""/v1/batches: files of requests, answered when the model has time."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from modelserver_runtime.rest.context import Context, NeedsJson
from modelserver_runtime.rest.jobs.batches import Batch, BatchOrder
from modelserver_runtime.rest.ownership import JobOwner
from modelserver_runtime.rest.paging import page
from modelserver_runtime.rest.schemas.jobs import (
    BatchCounts,
    BatchError,
    BatchErrors,
    BatchList,
    BatchObject,
    BatchRequest,
)

router = APIRouter(prefix="/v1/batches", tags=["OpenAI"])

_MOST_LISTED = 100


@router.post("", dependencies=[NeedsJson])
async def create_batch(
    body: BatchRequest, request: Request, owner: JobOwner, context: Context
) -> BatchObject:
    lifetime = body.output_expires_after
    order = BatchOrder(
        owner=owner,
        endpoint=body.endpoint,
        input_file_id=body.input_file_id,
        metadata=body.metadata,
        output_ttl_seconds=None if lifetime is None else lifetime.seconds,
    )
    return _batch(context.jobs.batches.start(order, request.app.state.whole))


@router.get("")
async def list_batches(
    owner: JobOwner,
    context: Context,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=_MOST_LISTED)] = 20,
) -> BatchList:
    shown, has_more = page(context.jobs.batches.list(owner.tenant), after=after, limit=limit)
    return BatchList(
        data=[_batch(batch) for batch in shown],
        first_id=shown[0].id if shown else None,
        last_id=shown[-1].id if shown else None,
        has_more=has_more,
    )


@router.get("/{batch_id}")
async def retrieve_batch(batch_id: str, owner: JobOwner, context: Context) -> BatchObject:
    return _batch(context.jobs.batches.find(owner.tenant, batch_id))


@router.post("/{batch_id}/cancel")
async def cancel_batch(batch_id: str, owner: JobOwner, context: Context) -> BatchObject:
    """Requests that are in the model are still answered; the others are not begun."""
    return _batch(context.jobs.batches.cancel(owner.tenant, batch_id))


def _batch(batch: Batch) -> BatchObject:
    order = batch.order
    return BatchObject(
        id=batch.id,
        endpoint=order.endpoint,
        errors=_errors(batch),
        input_file_id=order.input_file_id,
        status=batch.status,
        output_file_id=batch.output_file_id,
        error_file_id=batch.error_file_id,
        created_at=batch.created_at,
        expires_at=batch.expires_at,
        request_counts=BatchCounts(
            total=batch.total, completed=batch.completed, failed=batch.failed
        ),
        metadata=order.metadata and dict(order.metadata),
        **{f"{status}_at": time for status, time in batch.times.items()},
    )


def _errors(batch: Batch) -> BatchErrors | None:
    if not batch.errors:
        return None
    entries = [
        BatchError(
            code=error.code, line=error.line or None, message=error.message, param=error.param
        )
        for error in batch.errors
    ]
    return BatchErrors(data=entries)
