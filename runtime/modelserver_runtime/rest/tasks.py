"""/predict and /batch-predict: every task that is neither generation nor embedding."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ValidationError

from modelserver_runtime.backends.base import TaskItem
from modelserver_runtime.engine.service import ModelService
from modelserver_runtime.errors import InvalidRequest, RequestFailure, UnsupportedMedia
from modelserver_runtime.rest.context import JSON, Context, NeedsJson
from modelserver_runtime.rest.disconnect import until_disconnect
from modelserver_runtime.rest.errors import detail_of, invalid_request
from modelserver_runtime.rest.schemas.fields import RequestBody
from modelserver_runtime.rest.schemas.tasks import (
    TASK_SCHEMAS,
    BatchEnvelope,
    BatchPrediction,
    BatchResult,
    PredictEnvelope,
    Prediction,
    TaskSchema,
)

router = APIRouter(tags=["Tasks"])

_MEDIA = ("image/", "audio/", "video/", "application/octet-stream", "application/ogg")


@router.post("/predict")
async def predict(request: Request, context: Context) -> Prediction:
    ticket = context.ticket()
    envelope = await _envelope(request)
    service = (await context.model(envelope.model, deadline=ticket.deadline)).service
    engine = service.tasks
    schema = TASK_SCHEMAS[service.description.task]
    _require_content_type(_content_type(request), schema)
    item = _item(schema, envelope)
    [answer] = await until_disconnect(request.receive, engine.run([item], ticket))
    if isinstance(answer, RequestFailure):
        raise answer
    return Prediction(task=service.description.task, output=answer)


@router.post("/batch-predict", dependencies=[NeedsJson])
async def batch_predict(body: BatchEnvelope, request: Request, context: Context) -> BatchPrediction:
    """Each input succeeds or fails by itself; results are in the order of the inputs."""
    ticket = context.ticket()
    context.require_few(len(body.inputs), "inputs")
    service = (await context.model(body.model, deadline=ticket.deadline)).service
    engine = service.tasks
    items = _items(service, body)
    good = [item for item in items if isinstance(item, TaskItem)]
    answers = iter(await until_disconnect(request.receive, engine.run(good, ticket)))
    outcomes = [next(answers) if isinstance(item, TaskItem) else item for item in items]
    return BatchPrediction(
        task=service.description.task,
        results=[_result(index, outcome) for index, outcome in enumerate(outcomes)],
    )


async def _envelope(request: Request) -> PredictEnvelope:
    """JSON, or a file itself with what else there is to say in the query."""
    if _content_type(request) == JSON:
        return _parsed(PredictEnvelope, await request.body())
    return PredictEnvelope(
        model=request.query_params.get("model"),
        inputs=await request.body(),
        parameters=_query(request),
    )


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _require_content_type(kind: str, schema: TaskSchema) -> None:
    if kind == JSON or (schema.is_media and kind.startswith(_MEDIA)):
        return
    accepted = f"{JSON} or the file's own, such as image/png" if schema.is_media else JSON
    found = f"Content-Type is {kind}" if kind else "There is no Content-Type"
    raise UnsupportedMedia(f"{found}; send {accepted}")


def _query(request: Request) -> dict[str, Any]:
    """Parameters of a list type may be repeated: ?candidate_labels=cat&candidate_labels=dog."""
    values: dict[str, Any] = {}
    for name in request.query_params.keys() - {"model"}:
        given = request.query_params.getlist(name)
        values[name] = given if len(given) > 1 or name == "candidate_labels" else given[0]
    return values


def _parsed[Body: BaseModel](kind: type[Body], content: bytes) -> Body:
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise invalid_request(_in_body(error)) from error


def _in_body(error: ValidationError, *prefix: str | int) -> Sequence[Mapping[str, Any]]:
    return [{**problem, "loc": ("body", *prefix, *problem["loc"])} for problem in error.errors()]


def _item(schema: TaskSchema, envelope: PredictEnvelope) -> TaskItem:
    parameters = _parameters(schema, envelope.parameters)
    return TaskItem(inputs=_input(schema, envelope.inputs, "inputs"), parameters=parameters)


def _items(service: ModelService, body: BatchEnvelope) -> list[TaskItem | RequestFailure]:
    schema = TASK_SCHEMAS[service.description.task]
    parameters = _parameters(schema, body.parameters)
    return [
        _item_or_failure(schema, value, parameters, index)
        for index, value in enumerate(body.inputs)
    ]


def _item_or_failure(
    schema: TaskSchema, value: Any, parameters: Mapping[str, Any], index: int
) -> TaskItem | RequestFailure:
    try:
        return TaskItem(inputs=_input(schema, value, "inputs", index), parameters=parameters)
    except InvalidRequest as failure:
        return failure


def _input(schema: TaskSchema, value: Any, *location: str | int) -> Any:
    try:
        checked = schema.inputs_adapter.validate_python(value)
    except ValidationError as error:
        raise invalid_request(_in_body(error, *location)) from error
    return checked.model_dump() if isinstance(checked, BaseModel) else checked


def _parameters(schema: TaskSchema, values: Mapping[str, Any]) -> dict[str, Any]:
    try:
        checked: RequestBody = schema.parameters.model_validate(values)
    except ValidationError as error:
        raise invalid_request(_in_body(error, "parameters")) from error
    declared = set(schema.parameters.model_fields)
    return checked.model_dump(exclude_none=True, include=declared)


def _result(index: int, outcome: Any) -> BatchResult:
    if isinstance(outcome, RequestFailure):
        return BatchResult(index=index, error=detail_of(outcome))
    return BatchResult(index=index, output=outcome)
