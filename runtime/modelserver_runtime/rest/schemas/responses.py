"""Bodies of /v1/responses."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from modelserver_runtime.rest.schemas.generation import StreamOptions
from modelserver_runtime.rest.schemas.jobs import Metadata
from modelserver_runtime.rest.schemas.tools import MOST_TOOLS, FunctionName
from modelserver_runtime.tasks.fields import Answer, RequestBody


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


_TEXT_PARTS = frozenset({"input_text", "output_text", "text"})


def _as_text(content: Any) -> Any:
    """Joins text parts; others are named in the error."""
    if not isinstance(content, list):
        return content
    texts = []
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        if kind not in _TEXT_PARTS or not isinstance(part.get("text"), str):
            raise ValueError(f"part {index} is of type {kind}; this model reads only text parts")
        texts.append(part["text"])
    return "\n".join(texts)


type ItemText = Annotated[
    str,
    BeforeValidator(_as_text, json_schema_input_type=str | list[dict[str, Any]]),
]


class InputMessage(_Part):
    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: ItemText
    id: str | None = None


class InputCall(_Part):
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None


class InputCallOutput(_Part):
    type: Literal["function_call_output"]
    call_id: str
    output: ItemText
    id: str | None = None


class InputReasoning(_Part):
    """Clients send it back; the templates of models leave out what was thought before."""

    type: Literal["reasoning"]
    id: str | None = None


_ITEMS: Mapping[str, type[_Part]] = {
    "message": InputMessage,
    "function_call": InputCall,
    "function_call_output": InputCallOutput,
    "reasoning": InputReasoning,
}


def _as_item(value: Any) -> Any:
    """By its type, so that an error tells about this type only."""
    if not isinstance(value, dict):
        raise ValueError("must be a JSON object")  # noqa: TRY004  pydantic wants ValueError
    kind = value.get("type", "message")
    if kind not in _ITEMS:
        raise ValueError(f"the type {kind} is not supported by this server")
    return _ITEMS[kind].model_validate(value)


type InputItem = Annotated[
    InputMessage | InputCall | InputCallOutput | InputReasoning, BeforeValidator(_as_item)
]


def _as_items(value: Any) -> Any:
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


class FunctionTool(_Part):
    type: Literal["function"]
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedFunction(_Part):
    type: Literal["function"]
    name: str


class TextFormat(_Part):
    """For json_schema `name` and `schema` say which; `strict` changes nothing."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = None
    content: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    description: str | None = None
    strict: bool | None = None


class TextOptions(_Part):
    format: TextFormat = TextFormat()
    verbosity: Literal["medium"] | None = None


class ReasoningOptions(_Part):
    effort: str | None = None


class ResponsesRequest(RequestBody):
    harmless: ClassVar[frozenset[str]] = frozenset(
        {
            *("user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
            "prompt_cache_options",
        }
    )
    unsupported: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "truncation": ("disabled",),
        "conversation": (),
        "prompt": (),
        "max_tool_calls": (),
        "moderation": (),
        "context_management": (),
    }

    model: str
    input: Annotated[
        list[InputItem],
        BeforeValidator(_as_items, json_schema_input_type=str | list[dict[str, Any]]),
        Field(min_length=1),
    ]
    instructions: str | None = None
    previous_response_id: str | None = None
    max_output_tokens: Annotated[int | None, Field(ge=1)] = None
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**63)] = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    include: list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] | None = (
        None
    )
    text: TextOptions | None = None
    tools: Annotated[list[FunctionTool] | None, Field(max_length=MOST_TOOLS)] = None
    tool_choice: Literal["none", "auto", "required"] | NamedFunction | None = None
    parallel_tool_calls: bool | None = None
    reasoning: ReasoningOptions | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    store: bool | None = None
    background: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: Metadata | None = None


class InputTokensDetails(Answer):
    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputTokensDetails(Answer):
    reasoning_tokens: int = 0


class ResponseUsage(Answer):
    input_tokens: int
    input_tokens_details: InputTokensDetails = InputTokensDetails()
    output_tokens: int
    output_tokens_details: OutputTokensDetails = OutputTokensDetails()
    total_tokens: int


class ResponseError(Answer):
    code: str
    message: str


class IncompleteDetails(Answer):
    reason: Literal["max_output_tokens"] = "max_output_tokens"


class ResponseObject(Answer):
    """`output` are messages, function calls and reasoning, in the order of the answer."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None = None
    status: Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
    background: bool
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None
    max_output_tokens: int | None
    model: str
    output: list[dict[str, Any]]
    parallel_tool_calls: bool
    previous_response_id: str | None
    reasoning: dict[str, Any]
    service_tier: str | None
    store: bool
    temperature: float | None
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float | None
    truncation: Literal["disabled"] = "disabled"
    usage: ResponseUsage | None = None
    metadata: dict[str, str]


class ResponseDeleted(Answer):
    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True


class ResponseItems(Answer):
    object: Literal["list"] = "list"
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool
