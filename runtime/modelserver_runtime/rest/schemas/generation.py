"""Bodies of /v1/chat/completions, /v1/completions and /generate."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from modelserver_runtime.rest.priority import PriorityWish, ServiceTier
from modelserver_runtime.rest.schemas.fields import Answer, RequestBody
from modelserver_runtime.rest.schemas.formats import ResponseFormat, StructuredOutputs
from modelserver_runtime.rest.schemas.tools import MOST_TOOLS, Tool, ToolCall, ToolChoice

MOST_CHOICES = 128
_MOST_STOPS = 16


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


type StopStrings = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
    Field(max_length=_MOST_STOPS),
]
type TokenId = Annotated[int, Field(ge=0)]
type Bias = Annotated[float, Field(ge=-100, le=100)]


class StreamOptions(BaseModel):
    """`include_obfuscation` pads nothing here, as no stranger sees the stream."""

    model_config = ConfigDict(frozen=True)

    include_usage: bool = False
    include_obfuscation: bool | None = None


class SamplingFields(RequestBody):
    """What OpenAI's two generating routes have in common, and what vLLM's clients add to it."""

    model: str
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    top_k: Annotated[int | None, Field(ge=-1)] = None
    min_p: Annotated[float | None, Field(ge=0, le=1)] = None
    presence_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    frequency_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    repetition_penalty: Annotated[float | None, Field(gt=0, le=10)] = None
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**63)] = None
    logit_bias: dict[Annotated[int, Field(ge=0)], Bias] | None = None
    stop: StopStrings | None = None
    stop_token_ids: Annotated[list[TokenId] | None, Field(max_length=_MOST_STOPS)] = None
    n: Annotated[int | None, Field(ge=1, le=MOST_CHOICES)] = None
    min_tokens: Annotated[int | None, Field(ge=0)] = None
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    cache_salt: Annotated[str, Field(max_length=256)] = ""
    service_tier: ServiceTier | None = None
    priority: PriorityWish | None = None


HARMLESS = frozenset(
    {
        *("user", "metadata", "store", "safety_identifier", "prompt_cache_key"),
        *("prompt_cache_options", "prompt_cache_retention"),
    }
)


class TextPart(BaseModel):
    model_config = ConfigDict(frozen=True)

    type: Literal["text"]
    text: str


def _as_text(content: Any) -> Any:
    """Joins the text parts of a message; other kinds of part are named in the error."""
    if not isinstance(content, list):
        return content
    texts = []
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        if kind != "text" or not isinstance(part.get("text"), str):
            raise ValueError(f"part {index} is of type {kind}; this model reads only text parts")
        texts.append(part["text"])
    return "\n".join(texts)


type MessageText = Annotated[
    str | None,
    BeforeValidator(_as_text, json_schema_input_type=str | list[TextPart] | None),
]


class Message(BaseModel):
    """`tool_calls` are those of an assistant's message, `tool_call_id` is that of a tool's."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: Annotated[str | None, Field(validate_default=True)] = None
    content: Annotated[MessageText, Field(validate_default=True)] = None

    @field_validator("tool_call_id")
    @classmethod
    def _require_call(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("role") == "tool":
            raise PydanticCustomError("missing", "Field required")
        return value

    @field_validator("content")
    @classmethod
    def _require_content(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and "role" in info.data and not info.data.get("tool_calls"):
            raise PydanticCustomError("missing", "Field required")
        return value


class Prediction(BaseModel):
    """What the client expects as an answer: where it is right, the answer comes sooner."""

    model_config = ConfigDict(frozen=True)

    type: Literal["content"]
    content: Annotated[str, BeforeValidator(_as_text, json_schema_input_type=str | list[TextPart])]


class ChatRequest(SamplingFields):
    harmless: ClassVar[frozenset[str]] = HARMLESS
    unsupported: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "functions": ([],),
        "function_call": ("none", "auto"),
        "modalities": (["text"],),
        "audio": (),
        "verbosity": ("medium",),
        "web_search_options": (),
        "moderation": (),
    }

    messages: Annotated[list[Message], Field(min_length=1)]
    tools: Annotated[list[Tool] | None, Field(max_length=MOST_TOOLS)] = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    prediction: Prediction | None = None
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    reasoning_effort: str | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    chat_template_kwargs: dict[str, Any] | None = None


def _as_prompts(value: Any) -> Any:
    """One prompt or several, each a text or a list of token ids."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and all(type(entry) is int for entry in value):
        return [value]
    is_list = isinstance(value, list) and bool(value)
    if is_list and all(isinstance(entry, str) or _is_token_list(entry) for entry in value):
        return value
    raise ValueError("must be a text, a list of texts, a list of token ids, or a list of those")


def _is_token_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(entry) is int for entry in value)


type Prompts = Annotated[
    list[str | list[int]],
    BeforeValidator(
        _as_prompts, json_schema_input_type=str | list[str] | list[int] | list[list[int]]
    ),
]


class CompletionRequest(SamplingFields):
    harmless: ClassVar[frozenset[str]] = HARMLESS | {"prediction"}
    unsupported: ClassVar[Mapping[str, tuple[Any, ...]]] = {"suffix": ("",)}

    prompt: Prompts
    max_tokens: Annotated[int | None, Field(ge=0)] = None
    logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    echo: bool = False
    best_of: Annotated[int | None, Field(ge=1, le=MOST_CHOICES)] = None
    add_special_tokens: bool = True


class GenerateParameters(RequestBody):
    """`do_sample` false, the default, is greedy unless a temperature is given."""

    harmless: ClassVar[frozenset[str]] = frozenset({"details", "watermark", "truncate"})

    max_new_tokens: Annotated[int, Field(ge=1)] = 64
    do_sample: bool = False
    temperature: Annotated[float | None, Field(gt=0, le=2)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    top_k: Annotated[int | None, Field(ge=0)] = None
    repetition_penalty: Annotated[float | None, Field(gt=0, le=10)] = None
    seed: Annotated[int | None, Field(ge=0, lt=2**63)] = None
    stop: Annotated[StopStrings, Field(default_factory=list)]
    return_full_text: bool = False


class GenerateRequest(RequestBody):
    model: str | None = None
    inputs: Annotated[str, Field(min_length=1)]
    parameters: GenerateParameters = GenerateParameters(stop=[])
    stream: bool = False


class PromptTokensDetails(Answer):
    cached_tokens: int = 0
    audio_tokens: int = 0


class CompletionTokensDetails(Answer):
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class Usage(Answer):
    """The details are those that OpenAI's clients read; what this server does not do counts 0."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails = PromptTokensDetails()
    completion_tokens_details: CompletionTokensDetails = CompletionTokensDetails()


class TopLogprob(Answer):
    token: str
    logprob: float
    bytes: list[int]


class ChatLogprob(TopLogprob):
    top_logprobs: list[TopLogprob]


class ChatLogprobs(Answer):
    content: list[ChatLogprob]
    refusal: None = None


class AnswerMessage(Answer):
    """`content` is None if there are only calls."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None


class ChatChoice(Answer):
    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatCompletion(Answer):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    service_tier: str | None = None
    system_fingerprint: str


class CompletionLogprobs(Answer):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(Answer):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length"]


class Completion(Answer):
    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
    service_tier: str | None = None
    system_fingerprint: str


class GenerateAnswer(Answer):
    generated_text: str
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    generated_tokens: int
