"""The part of the OpenAPI document that follows from the tasks: what /predict takes and gives."""

from typing import Any

from pydantic import BaseModel, Field, create_model
from pydantic.json_schema import models_json_schema

from modelserver_runtime.rest.context import JSON
from modelserver_runtime.rest.schemas.tasks import TASK_SCHEMAS, TaskSchema
from modelserver_runtime.settings import Task

_REFERENCE = "#/components/schemas/{model}"
_BINARY = {"schema": {"type": "string", "format": "binary"}}


def drop_unused_statuses(document: dict[str, Any]) -> None:
    """FastAPI announces 422 for what is answered with 400 here."""
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)


def describe_tasks(document: dict[str, Any]) -> None:
    """Adds a schema for each task, of which a server's model decides which one it takes."""
    requests = [_request(task, schema) for task, schema in TASK_SCHEMAS.items()]
    batches = [_batch(task, schema) for task, schema in TASK_SCHEMAS.items()]
    answers = [_answer(task, schema) for task, schema in TASK_SCHEMAS.items()]
    inputs = [(model, "validation") for model in (*requests, *batches)]
    outputs = [(model, "serialization") for model in answers]
    _, definitions = models_json_schema([*inputs, *outputs], ref_template=_REFERENCE)  # type: ignore[list-item]  # literals
    document["components"]["schemas"] |= definitions["$defs"]
    predict = document["paths"]["/predict"]["post"]
    predict["requestBody"] = {
        "required": True,
        "content": {JSON: {"schema": _one_of(requests)}, "application/octet-stream": _BINARY},
    }
    predict["responses"]["200"]["content"] = {JSON: {"schema": _one_of(answers)}}
    document["paths"]["/batch-predict"]["post"]["requestBody"]["content"] = {
        JSON: {"schema": _one_of(batches)}
    }


def _one_of(models: list[type[BaseModel]]) -> dict[str, Any]:
    return {"anyOf": [{"$ref": _REFERENCE.format(model=model.__name__)} for model in models]}


def _request(task: Task, schema: TaskSchema) -> type[BaseModel]:
    return create_model(
        f"{task}Request", inputs=(schema.inputs, ...), parameters=_parameters(schema)
    )


def _batch(task: Task, schema: TaskSchema) -> type[BaseModel]:
    inputs = (list[schema.inputs], ...)  # type: ignore[name-defined]  # a type made at run time
    return create_model(f"{task}Batch", inputs=inputs, parameters=_parameters(schema))


def _parameters(schema: TaskSchema) -> Any:
    is_needed = any(field.is_required() for field in schema.parameters.model_fields.values())
    return (schema.parameters, ... if is_needed else Field(default_factory=schema.parameters))


def _answer(task: Task, schema: TaskSchema) -> type[BaseModel]:
    return create_model(f"{task}Prediction", task=(Task, task), output=(schema.answer, ...))
