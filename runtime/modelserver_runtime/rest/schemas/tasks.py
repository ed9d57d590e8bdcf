"""Bodies of /predict and /batch-predict; what inputs and outputs are says the model's task."""

from typing import Annotated, Any, Literal

from pydantic import Field

from modelserver_runtime.rest.schemas.errors import ErrorDetail
from modelserver_runtime.rest.schemas.fields import Answer, RequestBody


class PredictEnvelope(RequestBody):
    """What every task's body has in common; the inputs are judged by the task's own schema.

    Without `model` the server's own one is meant.
    """

    model: str | None = None
    inputs: Any
    parameters: dict[str, Any] = Field(default_factory=dict)


class BatchEnvelope(RequestBody):
    """With `mode: async` the answer is a job, which is asked for its result later."""

    mode: Literal["sync", "async"] = "sync"
    model: str | None = None
    inputs: Annotated[list[Any], Field(min_length=1)]
    parameters: dict[str, Any] = Field(default_factory=dict)


class Prediction(Answer):
    """`output` has the shape of the task's answer."""

    task: str
    output: Any


class BatchResult(Answer):
    """Either `output` or `error` is there."""

    index: int
    output: Any = None
    error: ErrorDetail | None = None


class BatchPrediction(Answer):
    task: str
    results: list[BatchResult]
