"""Calls of functions through the official client."""

import json
from typing import Any

import jsonschema_rs
import pytest
from openai import OpenAI
from transformers.utils.chat_parsing import ResponseParser

from modelserver_runtime.rest.schemas.generation import Message
from modelserver_runtime.rest.schemas.tools import FunctionDefinition
from modelserver_runtime.rest.tools.messages import plain_messages, spelled_out
from modelserver_runtime.rest.tools.parsing import DescribedReader
from modelserver_runtime.rest.tools.pieces import CallArguments, CallBegun, Reasoning, Text
from support.runtime_server import RunningServer

HELLO = [{"role": "user", "content": "hello"}]
WEATHER = {
    "type": "object",
    "properties": {
        "city": {"$ref": "#/$defs/city"},
        "days": {"type": "integer", "minimum": 1, "maximum": 7},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
    "$defs": {"city": {"enum": ["Köln", 'The "Hague"', "Lima"]}},
}
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "now", "description": "The time"}},
]
SCHEMAS = {"get_weather": WEATHER, "now": {"const": {}}}


@pytest.fixture(params=["roomy_server", "hermes_server"])
def client(request: pytest.FixtureRequest) -> OpenAI:
    server: RunningServer = request.getfixturevalue(request.param)
    return OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def chat(client: OpenAI, **options: Any) -> Any:
    given = {"model": "tiny", "messages": HELLO, "tools": TOOLS, "max_tokens": 1000}
    return client.chat.completions.create(**{**given, **options})


def require_valid(calls: Any) -> None:
    for call in calls:
        jsonschema_rs.validate(SCHEMAS[call.function.name], json.loads(call.function.arguments))


@pytest.mark.parametrize("seed", [1])
def test_required_calls_satisfy_their_schemas(client, seed):
    choice = chat(client, tool_choice="required", seed=seed, temperature=1.5).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls
    require_valid(choice.message.tool_calls)
    assert len({call.id for call in choice.message.tool_calls}) == len(choice.message.tool_calls)


def test_a_named_function_is_called_once(client):
    named = {"type": "function", "function": {"name": "now"}}
    for choice in chat(client, tool_choice=named, n=3, temperature=2).choices:
        assert [call.function.name for call in choice.message.tool_calls] == ["now"]
        assert choice.finish_reason == "tool_calls"


def test_calls_one_by_one_if_so_wanted(client):
    options = {"tool_choice": "required", "parallel_tool_calls": False, "temperature": 2}
    assert len(chat(client, seed=0, **options).choices[0].message.tool_calls) == 1


def test_a_stream_of_calls_has_the_official_shape(client):
    options = {"tool_choice": "required", "seed": 2, "temperature": 1.5}
    whole = chat(client, **options).choices[0].message.tool_calls
    chunks = list(chat(client, stream=True, **options))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert not chunks[-1].choices[0].delta.tool_calls
    calls: list[dict[str, str]] = []
    for chunk in chunks[1:-1]:
        [delta] = chunk.choices[0].delta.tool_calls
        if delta.index == len(calls):
            assert delta.id
            assert delta.type == "function"
            assert delta.function.arguments == ""
            calls.append({"name": delta.function.name, "arguments": ""})
        else:
            assert delta.index == len(calls) - 1
            assert delta.id is None
            assert delta.function.name is None
            calls[-1]["arguments"] += delta.function.arguments
    expected = [{"name": c.function.name, "arguments": c.function.arguments} for c in whole]
    assert calls == expected


def test_the_streaming_helper_of_the_client_understands_it(client):
    with client.chat.completions.stream(
        model="tiny",
        messages=HELLO,
        tools=[{**TOOLS[0], "function": {**TOOLS[0]["function"], "strict": True}}],
        tool_choice="required",
    ) as stream:
        for _ in stream:
            pass
        completion = stream.get_final_completion()
    require_valid(completion.choices[0].message.tool_calls)


def test_a_whole_conversation_with_calls_is_accepted(client):
    call = chat(client, tool_choice="required", parallel_tool_calls=False).choices[0].message
    messages = [
        *HELLO,
        call.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.tool_calls[0].id, "content": "sunny"},
    ]
    answer = chat(client, messages=messages, tool_choice="none", max_tokens=5)
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].finish_reason == "length"


def test_with_a_format_the_answer_is_a_call_or_has_the_form(client):
    answer_schema = {"const": {"answer": 5}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": answer_schema}}
    seen = set()
    for seed in range(2):
        choice = chat(client, response_format=form, seed=seed, temperature=2).choices[0]
        if choice.message.tool_calls:
            require_valid(choice.message.tool_calls)
        else:
            assert json.loads(choice.message.content) == {"answer": 5}
        seen.add(choice.finish_reason)
    assert seen <= {"stop", "tool_calls"}


def test_automatic_calls_may_be_text(client):
    choice = chat(client, max_tokens=10, temperature=0).choices[0]
    assert choice.finish_reason == "length"
    assert choice.message.tool_calls is None


def test_tools_are_spelled_out_for_a_template_without_them():
    messages = [
        Message(role="system", content="Be kind."),
        Message(role="user", content="hello"),
        Message(
            role="assistant",
            tool_calls=[{"id": "c1", "function": {"name": "now", "arguments": '{"zone": "UTC"}'}}],
        ),
        Message(role="tool", tool_call_id="c1", content="12:00"),
    ]
    functions = [FunctionDefinition(name="now", description="The time")]
    told, user, called, result = spelled_out(plain_messages(messages), functions)
    assert told["content"].startswith("Be kind.\n\n")
    assert '"name": "now"' in told["content"]
    assert user == {"role": "user", "content": "hello"}
    assert json.loads(called["content"]) == {"name": "now", "arguments": {"zone": "UTC"}}
    assert result == {"role": "user", "content": "Result of now: 12:00"}


TEMPLATE = {
    "start_anchor": "<|assistant|>",
    "fields": {
        "reasoning_content": {"open": "<think>", "close": "</think>", "content": "text"},
        "tool_calls": {
            "open": "<call>",
            "close": "</call>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"content": "text", "close": "<end>"},
    },
}


def described(text: str, size: int) -> list[Any]:
    reader = DescribedReader(ResponseParser(TEMPLATE, prefix=""))
    parts = [text[start : start + size] for start in range(0, len(text), size)]
    return [*(piece for part in parts for piece in reader.feed(part)), *reader.finish()]


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_description_in_the_models_files_is_followed(size):
    text = '<think>hm</think>Hello<call>{"name": "f", "arguments": {"a": 1}}</call>'
    pieces = described(text, size)
    assert "".join(piece.text for piece in pieces if isinstance(piece, Reasoning)) == "hm"
    assert "".join(piece.text for piece in pieces if isinstance(piece, Text)) == "Hello"
    [begun] = [piece for piece in pieces if isinstance(piece, CallBegun)]
    [arguments] = [piece for piece in pieces if isinstance(piece, CallArguments)]
    assert (begun.index, begun.name, json.loads(arguments.text)) == (0, "f", {"a": 1})


@pytest.mark.parametrize("size", [1, 1000])
def test_what_is_not_as_described_is_shown_as_it_is(size):
    pieces = described("Hello<call>{oops}</call> and more", size)
    text = "".join(piece.text for piece in pieces if isinstance(piece, Text))
    assert text.startswith("Hello")
    assert "{oops}" in text
    assert text.endswith(" and more")
