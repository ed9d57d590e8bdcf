"""What a request says to a task: from JSON, from a file as the body, or from a form with files."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from modelserver_runtime.backends.base import TaskItem
from modelserver_runtime.errors import InvalidRequest, RequestFailure, UnsupportedMedia
from modelserver_runtime.rest.context import JSON
from modelserver_runtime.rest.errors import invalid_request
from modelserver_runtime.rest.schemas.tasks import BatchEnvelope, PredictEnvelope
from modelserver_runtime.tasks import TaskDefinition, TaskSchema
from modelserver_runtime.tasks.fields import RequestBody

_FORM = "multipart/form-data"
# Names of a part that is the input itself.
_WHOLE_INPUT = ("inputs", "file")
_MOST_PARTS = 200


async def read_envelope(request: Request) -> PredictEnvelope:
    """Not judged yet: which task it is for is known when the model is found."""
    match content_type(request):
        case "application/json":
            return _parsed(PredictEnvelope, await request.body())
        case "multipart/form-data":
            return await _from_form(request)
        case _:
            return PredictEnvelope(
                model=request.query_params.get("model"),
                inputs=await request.body(),
                parameters=_query(request, without="model"),
            )


def content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def item_of(task: TaskDefinition, request: Request, envelope: PredictEnvelope) -> TaskItem:
    """Raises UnsupportedMedia and InvalidRequest."""
    schema = _schema(task)
    kind = content_type(request)
    _require_content_type(task, kind)
    inputs, parameters = envelope.inputs, envelope.parameters
    if kind != JSON:
        inputs, parameters = _assembled(schema, inputs, parameters)
    return TaskItem(
        inputs=_input(schema, inputs, "inputs"), parameters=_parameters(schema, parameters)
    )


def items_of(task: TaskDefinition, body: BatchEnvelope) -> list[TaskItem | RequestFailure]:
    schema = _schema(task)
    parameters = _parameters(schema, body.parameters)
    return [
        _item_or_failure(schema, value, parameters, index)
        for index, value in enumerate(body.inputs)
    ]


def item_of_value(
    task: TaskDefinition, value: Any, parameters: Mapping[str, Any], index: int
) -> TaskItem:
    """Of a value without a body of its own; `index` is its place among the inputs."""
    return TaskItem(inputs=_input(_schema(task), value, "inputs", index), parameters=parameters)


def parameters_of(task: TaskDefinition, values: Mapping[str, Any]) -> dict[str, Any]:
    return _parameters(_schema(task), values)


def _schema(task: TaskDefinition) -> TaskSchema:
    if task.schema is None:
        raise InvalidRequest(f"{task.name} is asked on {', '.join(task.routes)}")
    return task.schema


def _require_content_type(task: TaskDefinition, kind: str) -> None:
    if kind in {JSON, _FORM} or task.takes_content_type(kind):
        return
    own = ", the file's own (such as image/png)" if task.takes_files else ""
    found = f"Content-Type is {kind}" if kind else "There is no Content-Type"
    raise UnsupportedMedia(f"{found}; send {JSON}{own} or {_FORM}")


async def _from_form(request: Request) -> PredictEnvelope:
    """Parts by name: `model`, `parameters` as JSON, the inputs' fields, and single parameters."""
    try:
        async with request.form(max_files=_MOST_PARTS, max_fields=_MOST_PARTS) as form:
            values = {name: await _values(form, name) for name in form}
    except HTTPException as error:
        raise InvalidRequest(f"The form cannot be read: {error.detail}") from error
    [model] = values.pop("model", [None])[:1]
    parameters = _object(values.pop("parameters", [b"{}"])[0])
    return PredictEnvelope(
        model=model if isinstance(model, str) else None, inputs=values, parameters=parameters
    )


async def _values(form: FormData, name: str) -> list[Any]:
    parts = form.getlist(name)
    return [await part.read() if isinstance(part, UploadFile) else part for part in parts]


def _object(content: Any) -> dict[str, Any]:
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"parameters is no JSON: {error}", param="parameters") from error
    if not isinstance(value, dict):
        raise InvalidRequest("parameters must be a JSON object", param="parameters")
    return value


def _assembled(
    schema: TaskSchema, inputs: Any, parameters: Mapping[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Sorts what came by name into inputs and parameters."""
    if isinstance(inputs, bytes):
        inputs, parameters = {_WHOLE_INPUT[0]: [inputs], **parameters}, {}
    named = dict(inputs)
    whole = [part for name in _WHOLE_INPUT for part in named.pop(name, [])]
    if whole and schema.file_field:
        named.setdefault(schema.file_field, whole)
    fields = {name: named.pop(name) for name in schema.input_fields & named.keys()}
    others = {name: _value_of(schema.parameters, name, found) for name, found in named.items()}
    if not schema.input_fields:
        return (whole[0] if len(whole) == 1 else whole), {**others, **parameters}
    values = {name: _value_of(schema.inputs, name, found) for name, found in fields.items()}
    return values, {**others, **parameters}


def _value_of(model: type[BaseModel], name: str, found: Sequence[Any]) -> Any:
    """One value of several is no list, unless the field wants one; a structure comes as JSON."""
    kinds = _json_kinds(model).get(name, frozenset())
    first = found[0]
    is_text = isinstance(first, str) and len(found) == 1
    if is_text and first.lstrip()[:1] in {"[", "{"} and not kinds & {"string"}:
        try:
            return orjson.loads(first)
        except orjson.JSONDecodeError as error:
            raise InvalidRequest(f"{name} is no JSON: {error}", param=name) from error
    return list(found) if "array" in kinds or len(found) > 1 else first


@cache
def _json_kinds(model: type[BaseModel]) -> Mapping[str, frozenset[str]]:
    """The JSON types that each field may have."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})

    def kinds(part: Mapping[str, Any]) -> frozenset[str]:
        if "$ref" in part:
            return kinds(definitions[part["$ref"].rpartition("/")[2]])
        choices = part.get("anyOf", [])
        return frozenset({part["type"]} if "type" in part else set()).union(*map(kinds, choices))

    return {name: kinds(part) for name, part in schema.get("properties", {}).items()}


def _query(request: Request, *, without: str) -> dict[str, Any]:
    """A parameter may be repeated: ?candidate_labels=cat&candidate_labels=dog."""
    names = request.query_params.keys() - {without}
    return {name: request.query_params.getlist(name) for name in names}


def _parsed[Body: BaseModel](kind: type[Body], content: bytes) -> Body:
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise invalid_request(_in_body(error)) from error


def _in_body(error: ValidationError, *prefix: str | int) -> Sequence[Mapping[str, Any]]:
    return [{**problem, "loc": ("body", *prefix, *problem["loc"])} for problem in error.errors()]


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
