"""What a client may ask an answer to look like: OpenAI's response_format and vLLM's addition."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

_MOST_CHOICES = 1000


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class JsonSchema(_Part):
    """`strict` changes nothing: an answer always follows its schema."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    description: str | None = None
    content: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class ResponseFormat(_Part):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: Annotated[JsonSchema | None, Field(validate_default=True)] = None

    @field_validator("json_schema")
    @classmethod
    def _require_where_named(
        cls, value: JsonSchema | None, info: ValidationInfo
    ) -> JsonSchema | None:
        if value is None and info.data.get("type") == "json_schema":
            raise PydanticCustomError("missing", "Field required")
        return value


class StructuredOutputs(_Part):
    """Exactly one of them; `grammar` is written in Lark or GBNF."""

    json_: Annotated[dict[str, Any] | str | None, Field(alias="json")] = None
    json_object: Literal[True] | None = None
    regex: Annotated[str | None, Field(min_length=1)] = None
    choice: Annotated[
        list[Annotated[str, Field(min_length=1)]] | None,
        Field(min_length=1, max_length=_MOST_CHOICES),
    ] = None
    grammar: Annotated[str | None, Field(min_length=1)] = None

    @model_validator(mode="after")
    def _require_one(self) -> "StructuredOutputs":
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(name.rstrip("_") for name in given) or "none"
            raise ValueError(
                f"needs exactly one of json, json_object, regex, choice and grammar; found {found}"
            )
        return self
