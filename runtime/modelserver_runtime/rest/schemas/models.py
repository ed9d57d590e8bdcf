"""Bodies of /v1/models."""

from typing import Literal

from modelserver_runtime.rest.schemas.fields import Answer


class ModelCard(Answer):
    """`root` is where the model came from; `max_model_len` is None where tokens do not count."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "modelserver"
    root: str
    revision: str
    task: str
    max_model_len: int | None


class ModelList(Answer):
    object: Literal["list"] = "list"
    data: list[ModelCard]
