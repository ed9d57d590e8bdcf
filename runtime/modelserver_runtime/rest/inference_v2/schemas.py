"""Bodies of the protocol."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from modelserver_runtime.rest.inference_v2.tensors import DATATYPES
from modelserver_runtime.rest.schemas.generation import GenerateParameters
from modelserver_runtime.tasks.fields import Answer, RequestBody

_MOST_DIMENSIONS = 32

type Datatype = Literal[DATATYPES]  # type: ignore[valid-type]  # a tuple of texts, as Literal takes
type Parameters = dict[str, Any]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RequestTensor(_Part):
    """`data` is missing if the tensor's bytes follow the JSON."""

    name: str
    shape: Annotated[
        list[Annotated[int, Field(ge=0, lt=2**31)]],
        Field(min_length=1, max_length=_MOST_DIMENSIONS),
    ]
    datatype: Datatype
    parameters: Parameters = Field(default_factory=dict)
    data: list[Any] | None = None


class RequestedOutput(_Part):
    name: str
    parameters: Parameters = Field(default_factory=dict)


class InferRequest(_Part):
    """`model_name` and `model_version` are in the path already; KServe's client repeats them."""

    id: str | None = None
    model_name: str | None = None
    model_version: str | None = None
    parameters: Parameters = Field(default_factory=dict)
    inputs: Annotated[list[RequestTensor], Field(min_length=1)]
    outputs: list[RequestedOutput] | None = None


class ResponseTensor(Answer):
    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters | None = None
    data: list[Any] | None = None


class InferResponse(Answer):
    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[ResponseTensor]


class GenerateV2Request(RequestBody):
    id: str | None = None
    text_input: Annotated[str, Field(min_length=1)]
    parameters: GenerateParameters = GenerateParameters(stop=[])


class GenerateV2Answer(Answer):
    model_name: str
    model_version: str
    id: str | None = None
    text_output: str
    finish_reason: str | None = None


class ServerMetadata(Answer):
    name: str
    version: str
    extensions: list[str]


class Live(Answer):
    live: bool


class Ready(Answer):
    ready: bool


class ModelReady(Answer):
    name: str
    ready: bool


class ModelNames(Answer):
    models: list[str]


class TensorMetadata(Answer):
    """A size of -1 is any."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(Answer):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class IndexRequest(RequestBody):
    ready: bool = False


class IndexEntry(Answer):
    name: str
    version: str
    state: str
    reason: str = ""
