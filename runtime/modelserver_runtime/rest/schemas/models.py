"""Bodies of /v1/models, /models and what loads and unloads."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from modelserver_runtime.models.served import ModelState
from modelserver_runtime.rest.schemas.fields import Answer, RequestBody


class ModelCard(Answer):
    """`root` is where the model came from; `max_model_len` is None where tokens do not count.

    Of a model that was never in memory, `task` is known only if it is configured.
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "modelserver"
    root: str
    revision: str
    task: str | None
    max_model_len: int | None


class ModelList(Answer):
    object: Literal["list"] = "list"
    data: list[ModelCard]


class ModelChoice(RequestBody):
    model: Annotated[str, Field(min_length=1)]


class LoadFailureReport(Answer):
    """`retry_after_seconds` is how long the model is not tried again."""

    code: str
    message: str
    hint: str
    retry_after_seconds: float


class LoadProgress(Answer):
    phase: str
    percent: int
    message: str


class TokenCostReport(Answer):
    """Of a token: bytes of weights that a step reads for all of its tokens together; operations."""

    weight_bytes: int
    operations: int
    head_operations: int


class LoadedReport(Answer):
    """What is known once the model is in memory; `circuits` are their states by failure.

    `engine` is `native`, or `transformers` because of `engine_reason`.
    """

    task: str
    architecture: str
    parameters: int
    dtype: str
    device: str
    threads: int
    engine: str
    engine_reason: str
    memory_bytes: int
    max_model_length: int | None
    token_cost: TokenCostReport | None
    circuits: dict[str, str]


class ModelReport(Answer):
    """One model with everything that a person wants to know about it.

    `requests` are those that hold it in memory now.
    """

    name: str
    aliases: tuple[str, ...]
    state: ModelState
    is_primary: bool
    is_pinned: bool
    is_preloaded: bool
    uri: str
    directory: Path
    revision: str
    requests: int
    seconds_since_use: float
    progress: LoadProgress | None = None
    failure: LoadFailureReport | None = None
    loaded: LoadedReport | None = None


class ModelReports(Answer):
    """`max_loaded` counts models, `budget_bytes` is None where free memory decides."""

    models: list[ModelReport]
    in_memory: int
    max_loaded: int
    memory_bytes: int
    budget_bytes: int | None


class LoadAnswer(Answer):
    """`seconds` is how long the answer took, `was_loaded` whether there was nothing to do."""

    model: ModelReport
    was_loaded: bool
    seconds: float


class UnloadAnswer(Answer):
    model: ModelReport
    was_loaded: bool
