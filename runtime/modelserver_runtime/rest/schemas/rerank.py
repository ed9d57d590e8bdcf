"""Bodies of /v1/rerank and /v1/score."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from modelserver_runtime.tasks.fields import Answer, RequestBody


def _as_texts(value: Any) -> Any:
    """A document may be a text, or an object with one."""
    if not isinstance(value, list):
        return value
    return [entry.get("text") if isinstance(entry, dict) else entry for entry in value]


class TextDocument(BaseModel):
    model_config = ConfigDict(frozen=True)

    text: str


type Text = Annotated[str, Field(min_length=1)]
type Documents = Annotated[
    list[Text],
    BeforeValidator(_as_texts, json_schema_input_type=list[str | TextDocument]),
    Field(min_length=1),
]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


type Texts = Annotated[
    list[Text],
    BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
    Field(min_length=1),
]


class RerankRequest(RequestBody):
    harmless: ClassVar[frozenset[str]] = frozenset({"user"})

    model: str | None = None
    query: Text
    documents: Documents
    top_n: Annotated[int | None, Field(ge=1)] = None
    return_documents: bool = True


class RerankUsage(Answer):
    total_tokens: int


class RankedDocument(Answer):
    text: str


class Ranked(Answer):
    """`index` is the place in the request."""

    index: int
    relevance_score: float
    document: RankedDocument | None = None


class RerankAnswer(Answer):
    """`usage` is None where the model's own pipeline counts the tokens."""

    id: str
    model: str
    results: list[Ranked]
    usage: RerankUsage | None


class ScoreRequest(RequestBody):
    """One text against each of the others, or both lists pair by pair."""

    harmless: ClassVar[frozenset[str]] = frozenset({"user"})

    model: str | None = None
    text_1: Texts
    text_2: Texts


class Score(Answer):
    index: int
    object: Literal["score"] = "score"
    score: float


class ScoreAnswer(Answer):
    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[Score]
    usage: RerankUsage | None
