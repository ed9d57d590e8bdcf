"""Functions that a model may call, and its calls, as OpenAI's chat route writes them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MOST_TOOLS = 128


def _require_function(value: Any) -> Any:
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind != "function":
        raise ValueError(f"the type {kind} is not supported by this server; use function")
    return value


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


type FunctionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class FunctionDefinition(_Part):
    """`strict` changes nothing: forced calls always follow the schema of the parameters."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _FunctionTool(_Part):
    type: Literal["function"] = "function"
    function: FunctionDefinition


type Tool = Annotated[_FunctionTool, BeforeValidator(_require_function)]


class FunctionReference(_Part):
    name: str


class _NamedTool(_Part):
    type: Literal["function"] = "function"
    function: FunctionReference


type NamedTool = Annotated[_NamedTool, BeforeValidator(_require_function)]
type ToolChoice = Literal["none", "auto", "required"] | NamedTool


class CalledFunction(_Part):
    """`arguments` is JSON as the model wrote it."""

    name: str
    arguments: str


class ToolCall(_Part):
    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
