"""A request for a response as the chat that it means."""

from collections.abc import Sequence
from typing import Any

from modelserver_runtime.identifiers import random_hex
from modelserver_runtime.rest.schemas.generation import ChatRequest
from modelserver_runtime.rest.schemas.responses import NamedFunction, ResponsesRequest, TextFormat

type Item = dict[str, Any]

# What a chat calls these fields, and what a client of this route does.
PARAMS = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
}
LOGPROBS = "message.output_text.logprobs"


def input_items(body: ResponsesRequest) -> list[Item]:
    """As they are listed later: each with an id, and content in parts."""
    return [_item(item.model_dump(exclude_none=True)) for item in body.input]


def _item(fields: Item) -> Item:
    kind = fields["type"]
    prefix = {"message": "msg", "function_call": "fc", "function_call_output": "fco"}
    item = {"id": f"{prefix.get(kind, 'rs')}_{random_hex(12)}", **fields}
    if kind == "message":
        part = "output_text" if item["role"] == "assistant" else "input_text"
        item["content"] = [{"type": part, "text": item["content"]}]
        item["status"] = "completed"
    if kind == "reasoning":
        item["summary"] = []
    return item


def chat_of(body: ResponsesRequest, items: Sequence[Item]) -> ChatRequest:
    """`items` is the whole conversation."""
    wants_logprobs = LOGPROBS in (body.include or ())
    fields: dict[str, Any] = {
        "model": body.model,
        "messages": messages_of(body.instructions, items),
        "max_completion_tokens": body.max_output_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "seed": body.seed,
        "logprobs": wants_logprobs or None,
        "top_logprobs": body.top_logprobs if wants_logprobs else None,
        "response_format": _format(body.text.format if body.text else TextFormat()),
        "tools": [_tool(tool.model_dump(exclude_none=True)) for tool in body.tools or ()] or None,
        "tool_choice": _choice(body.tool_choice),
        "parallel_tool_calls": body.parallel_tool_calls,
        "reasoning_effort": body.reasoning and body.reasoning.effort,
        "service_tier": body.service_tier,
    }
    return ChatRequest.model_validate(fields)


def messages_of(instructions: str | None, items: Sequence[Item]) -> list[Item]:
    """Calls belong to the assistant's message before them, if there is one."""
    messages: list[Item] = []
    if instructions:
        messages.append({"role": "system", "content": instructions})
    for item in items:
        match item["type"]:
            case "message":
                content = "\n".join(part["text"] for part in item["content"])
                messages.append({"role": item["role"], "content": content})
            case "function_call":
                _add_call(messages, item)
            case "function_call_output":
                output = {"content": item["output"], "tool_call_id": item["call_id"]}
                messages.append({"role": "tool", **output})
            case _:  # reasoning
                pass
    return messages


def _add_call(messages: list[Item], item: Item) -> None:
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    function = {"name": item["name"], "arguments": item["arguments"]}
    calls = messages[-1].setdefault("tool_calls", [])
    calls.append({"id": item["call_id"], "type": "function", "function": function})


def _format(wanted: TextFormat) -> Item:
    if wanted.type != "json_schema":
        return {"type": wanted.type}
    schema = {"name": wanted.name or "answer", "schema": wanted.content or {}}
    return {"type": "json_schema", "json_schema": schema}


def _tool(fields: Item) -> Item:
    return {"type": fields.pop("type"), "function": fields}


def _choice(wanted: str | NamedFunction | None) -> Any:
    if isinstance(wanted, NamedFunction):
        return {"type": "function", "function": {"name": wanted.name}}
    return wanted
