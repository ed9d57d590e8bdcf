"""A conversation with calls, in the form that the templates of models take."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from modelserver_runtime.rest.schemas.generation import Message
from modelserver_runtime.rest.schemas.tools import FunctionDefinition, ToolCall

_INSTRUCTIONS = (
    "You can call the functions below. To call one, answer with nothing but JSON of the form "
    '{"name": "the function", "arguments": {"parameter": "value"}}; its result comes next.'
)


def knows_tools(chat_template: str) -> bool:
    return "tools" in chat_template


def plain_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Templates know no developer; it is OpenAI's newer word for system."""
    names: dict[str, str] = {}
    return [_plain(message, names) for message in messages]


def _plain(message: Message, names: dict[str, str]) -> dict[str, Any]:
    """`names` are the functions of the calls so far; templates want them at the results."""
    role = "system" if message.role == "developer" else message.role
    plain: dict[str, Any] = {"role": role, "content": message.content or ""}
    if message.tool_calls:
        names.update({call.id: call.function.name for call in message.tool_calls})
        plain["tool_calls"] = [_call(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        name = message.name or names.get(message.tool_call_id, "")
        plain |= {"tool_call_id": message.tool_call_id, "name": name}
    return plain


def _call(call: ToolCall) -> dict[str, Any]:
    """Templates write the arguments as JSON themselves."""
    function = {"name": call.function.name, "arguments": _decoded(call.function.arguments)}
    return {"id": call.id, "type": "function", "function": function}


def _decoded(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def described(function: FunctionDefinition) -> dict[str, Any]:
    """A tool as templates take it."""
    fields = function.model_dump(exclude_none=True, exclude={"strict"})
    fields.setdefault("parameters", {"type": "object", "properties": {}})
    return {"type": "function", "function": {"description": "", **fields}}


def spelled_out(
    messages: Sequence[Mapping[str, Any]], functions: Sequence[FunctionDefinition]
) -> list[dict[str, Any]]:
    """For a template that knows no tools: functions, calls and results as plain text."""
    plain = [_spelled_out(message) for message in messages]
    if not functions:
        return plain
    listed = "\n".join(json.dumps(described(function)["function"]) for function in functions)
    told = f"{_INSTRUCTIONS}\n{listed}"
    if plain and plain[0]["role"] == "system":
        told = f"{plain.pop(0)['content']}\n\n{told}"
    return [{"role": "system", "content": told}, *plain]


def _spelled_out(message: Mapping[str, Any]) -> dict[str, Any]:
    if message["role"] == "tool":
        return {"role": "user", "content": f"Result of {message['name']}: {message['content']}"}
    calls = [json.dumps(call["function"]) for call in message.get("tool_calls", ())]
    content = "\n".join([*([message["content"]] if message["content"] else []), *calls])
    return {"role": message["role"], "content": content}
