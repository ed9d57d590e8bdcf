"""What the server must know about a task without importing what computes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from pydantic import BaseModel, TypeAdapter

from modelserver_runtime.tasks.fields import RequestBody

PREDICT_ROUTES = ("/predict", "/batch-predict")


class Medium(StrEnum):
    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"
    TABLE = "table"


# Content types of a body that is the input itself, by what they begin with.
CONTENT_TYPES: Mapping[Medium, Sequence[str]] = {
    Medium.IMAGE: ("image/",),
    Medium.AUDIO: ("audio/", "application/ogg"),
    Medium.VIDEO: ("video/", "image/"),
}
_ANY_FILE = "application/octet-stream"


@dataclass(frozen=True, kw_only=True)
class TaskSchema:
    """Types of /predict: of `inputs`, `parameters` and `output`.

    `file_field` is the field of the inputs that a file fills when it is the body itself; empty when
    the inputs are the file.
    """

    inputs: Any
    parameters: type[RequestBody]
    answer: Any
    file_field: str = ""

    @cached_property
    def inputs_adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.inputs)

    @property
    def input_fields(self) -> frozenset[str]:
        """Names of the inputs' fields; none if they are not an object."""
        is_object = isinstance(self.inputs, type) and issubclass(self.inputs, BaseModel)
        return frozenset(self.inputs.model_fields) if is_object else frozenset()


@dataclass(frozen=True, kw_only=True)
class TaskDefinition:
    """A task that models can be served for.

    `name` is what `spec.model.task` and MODELSERVER_TASK say. `loader` is
    "package.module:function", imported when a model is loaded; see `backends.registry.LoadTask`.
    `pipeline` is the task's name in transformers. `architectures` are names, or ends of names, of
    config.json's `architectures`: only needed by tasks that the server does not know itself.
    `schema` is None for tasks whose routes have bodies of their own. The answers of a task that
    `is_random` differ from time to time, so they are never kept.
    """

    name: str
    summary: str
    loader: str
    accepts: frozenset[Medium]
    schema: TaskSchema | None = None
    routes: tuple[str, ...] = PREDICT_ROUTES
    pipeline: str = ""
    architectures: tuple[str, ...] = field(default=())
    is_random: bool = False

    @property
    def takes_files(self) -> bool:
        return bool(self.accepts & CONTENT_TYPES.keys())

    def takes_content_type(self, kind: str) -> bool:
        """Whether a body of this type is the input itself."""
        if self.schema is None:
            return False
        beginnings = [start for medium in self.accepts for start in CONTENT_TYPES.get(medium, ())]
        return bool(beginnings) and kind.startswith((*beginnings, _ANY_FILE))
