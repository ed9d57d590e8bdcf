"""Bodies of /v1/embeddings."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelserver_runtime.rest.schemas.fields import Answer, RequestBody
from modelserver_runtime.rest.schemas.generation import Prompts


class EmbeddingRequest(RequestBody):
    harmless: ClassVar[frozenset[str]] = frozenset({"user"})

    model: str
    input: Prompts
    dimensions: Annotated[int | None, Field(ge=1)] = None
    encoding_format: Literal["float", "base64"] = "float"


class EmbeddingUsage(Answer):
    prompt_tokens: int
    total_tokens: int


class Embedding(Answer):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingList(Answer):
    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
