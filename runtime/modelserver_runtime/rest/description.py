"""The part of the OpenAPI document that follows from the tasks: what /predict takes and gives."""

from typing import Any, Literal

from pydantic import BaseModel, Field, create_model
from pydantic.json_schema import models_json_schema

from modelserver_runtime.rest.context import JSON
from modelserver_runtime.tasks import TaskSchema, all_tasks

_REFERENCE = "#/components/schemas/{model}"
_BINARY = {"schema": {"type": "string", "format": "binary"}}
# A part of the form for each field of the inputs, and for each parameter.
_FORM = {"schema": {"type": "object", "additionalProperties": True}}
_FILES = {"application/octet-stream": _BINARY, "multipart/form-data": _FORM}


def drop_unused_statuses(document: dict[str, Any]) -> None:
    """FastAPI announces 422 for what is answered with 400 here."""
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)


def describe_tasks(document: dict[str, Any]) -> None:
    """Adds a schema for each task, of which a server's model decides which one it takes."""
    schemas = {task.name: task.schema for task in all_tasks() if task.schema}
    requests = [_request(name, schema) for name, schema in schemas.items()]
    batches = [_batch(name, schema) for name, schema in schemas.items()]
    answers = [_answer(name, schema) for name, schema in schemas.items()]
    inputs = [(model, "validation") for model in (*requests, *batches)]
    outputs = [(model, "serialization") for model in answers]
    _, definitions = models_json_schema([*inputs, *outputs], ref_template=_REFERENCE)  # type: ignore[list-item]  # literals
    document["components"]["schemas"] |= definitions["$defs"]
    predict = document["paths"]["/predict"]["post"]
    predict["requestBody"] = {
        "required": True,
        "content": {JSON: {"schema": _one_of(requests)}, **_FILES},
    }
    predict["responses"]["200"]["content"] = {JSON: {"schema": _one_of(answers)}}
    document["paths"]["/batch-predict"]["post"]["requestBody"]["content"] = {
        JSON: {"schema": _one_of(batches)}
    }


def _one_of(models: list[type[BaseModel]]) -> dict[str, Any]:
    return {"anyOf": [{"$ref": _REFERENCE.format(model=model.__name__)} for model in models]}


def _request(name: str, schema: TaskSchema) -> type[BaseModel]:
    return create_model(
        f"{name}Request",
        model=(str | None, None),
        inputs=(schema.inputs, ...),
        parameters=_parameters(schema),
    )


def _batch(name: str, schema: TaskSchema) -> type[BaseModel]:
    inputs = (list[schema.inputs], ...)  # type: ignore[name-defined]  # a type made at run time
    parameters = _parameters(schema)
    return create_model(
        f"{name}Batch", model=(str | None, None), inputs=inputs, parameters=parameters
    )


def _parameters(schema: TaskSchema) -> Any:
    is_needed = any(field.is_required() for field in schema.parameters.model_fields.values())
    return (schema.parameters, ... if is_needed else Field(default_factory=schema.parameters))


def _answer(name: str, schema: TaskSchema) -> type[BaseModel]:
    own_name: Any = Literal[name]  # a type made at run time
    return create_model(f"{name}Prediction", task=(own_name, name), output=(schema.answer, ...))
