"""Wrong requests for formats, tools, responses, files and batches: each gets its sentence."""

from dataclasses import dataclass
from typing import Any

import pytest

from support.runtime_server import RunningServer

HELLO = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@dataclass(frozen=True, kw_only=True)
class Wrong:
    path: str
    body: Any
    says: str
    param: str | None
    status: int = 400


def chat(says: str, param: str | None, **changes: Any) -> Wrong:
    body = {"model": "tiny", "messages": HELLO, "max_tokens": 3, **changes}
    return Wrong(path="/v1/chat/completions", body=body, says=says, param=param)


def form(says: str, param: str | None, **wanted: Any) -> Wrong:
    return chat(says, param, structured_outputs=wanted)


def schema(says: str, content: Any) -> Wrong:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": content}}
    return chat(says, "response_format", response_format=wanted)


def completion(says: str, param: str | None, **changes: Any) -> Wrong:
    body = {"model": "tiny", "prompt": "the", "max_tokens": 3, **changes}
    return Wrong(path="/v1/completions", body=body, says=says, param=param)


def response(says: str, param: str | None, *, status: int = 400, **changes: Any) -> Wrong:
    body = {"model": "tiny", "input": "the", "max_output_tokens": 3, **changes}
    return Wrong(path="/v1/responses", body=body, says=says, param=param, status=status)


def batch(says: str, param: str | None, *, status: int = 400, **changes: Any) -> Wrong:
    given = {"endpoint": "/v1/completions", "completion_window": "24h", "input_file_id": "file-1"}
    return Wrong(
        path="/v1/batches", body={**given, **changes}, says=says, param=param, status=status
    )


WRONG: dict[str, Wrong] = {
    # the form of the answer
    "unknown format": chat(
        "'text', 'json_object' or 'json_schema'", "response_format.type",
        response_format={"type": "xml"},
    ),
    "format without a schema": chat(
        "response_format.json_schema is missing", "response_format.json_schema",
        response_format={"type": "json_schema"},
    ),
    "format without a name": chat(
        "response_format.json_schema.name is missing", "response_format.json_schema.name",
        response_format={"type": "json_schema", "json_schema": {"schema": {}}},
    ),
    "schema of an unknown type": schema("Invalid type: banana", {"type": "banana"}),
    "dangling reference": schema("Pointer '/x' does not exist", {"$ref": "#/x"}),
    "schema that nothing satisfies": schema(
        "minimum (5) is greater than maximum (3)", {"type": "integer", "minimum": 5, "maximum": 3}
    ),
    "schema with a wrong pattern": schema(
        "regex parse error", {"type": "string", "pattern": "("}
    ),
    "unsupported keyword": schema(
        'Unimplemented keys: ["uniqueItems"]', {"type": "array", "uniqueItems": True}
    ),
    "two forms": form(
        "exactly one of json, json_object, regex, choice and grammar; found regex and choice",
        "structured_outputs", regex="a", choice=["b"],
    ),
    "no form": form("found none", "structured_outputs"),
    "form of an unknown kind": form("Extra inputs", "structured_outputs.xml", xml="a"),
    "no choices": form("structured_outputs.choice", "structured_outputs.choice", choice=[]),
    "an empty choice": form(
        "structured_outputs.choice.1", "structured_outputs.choice.1", choice=["a", ""]
    ),
    "wrong regular expression": form(
        "The regular expression cannot be used", "structured_outputs", regex="(a"
    ),
    "wrong grammar": form('unknown name: "foo"', "structured_outputs", grammar="start: foo"),
    "schema that is no JSON": form(
        "structured_outputs.json is not valid JSON", "structured_outputs.json", json="{",
    ),
    "schema that is no object": form("cannot be used", "structured_outputs", json="[1]"),
    "two fields for the form": chat(
        "send only one of them", "structured_outputs",
        response_format={"type": "json_object"}, structured_outputs={"regex": "a"},
    ),
    "form and a shortest answer": chat(
        "min_tokens cannot be combined with response_format", "min_tokens",
        response_format={"type": "json_object"}, min_tokens=5,
    ),
    "form without an end": chat(
        "ignore_eos cannot be combined with structured_outputs", "ignore_eos",
        structured_outputs={"regex": "a"}, ignore_eos=True,
    ),
    # tools
    "another kind of tool": chat(
        "the type custom is not supported by this server; use function", "tools.0",
        tools=[{"type": "custom", "custom": {"name": "x"}}],
    ),
    "tool without a name": chat(
        "tools.0.function.name is missing", "tools.0.function.name",
        tools=[{"type": "function", "function": {}}],
    ),
    "tool with a wrong name": chat(
        "tools.0.function.name", "tools.0.function.name",
        tools=[{"type": "function", "function": {"name": "get weather"}}],
    ),
    "two tools of a name": chat(
        "tools has several functions named f", "tools", tools=[TOOL, TOOL]
    ),
    "too many tools": chat("at most 128", "tools", tools=[TOOL] * 129),
    "choice without tools": chat(
        "tool_choice wants a call, and tools is empty", "tool_choice", tool_choice="required"
    ),
    "unknown choice": chat(
        "'none', 'auto' or 'required'", "tool_choice", tools=[TOOL], tool_choice="always"
    ),
    "choice of nobody": chat(
        "tool_choice names g, and tools has f", "tool_choice", tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "g"}},
    ),
    "forced tool with a wrong schema": chat(
        "Invalid type: banana", "tools", tool_choice="required",
        tools=[{"type": "function", "function": {"name": "f", "parameters": {
            "properties": {"a": {"type": "banana"}}}}}],
    ),
    "regular expression beside tools": chat(
        "cannot be combined with tools that may be called", "structured_outputs",
        tools=[TOOL], structured_outputs={"regex": "a"},
    ),
    "result without its call": chat(
        "messages.1.tool_call_id is missing", "messages.1.tool_call_id",
        messages=[*HELLO, {"role": "tool", "content": "x"}],
    ),
    "assistant who says nothing": chat(
        "messages.1.content is missing", "messages.1.content",
        messages=[*HELLO, {"role": "assistant", "tool_calls": []}],
    ),
    "call without arguments": chat(
        "messages.1.tool_calls.0.function.arguments is missing",
        "messages.1.tool_calls.0.function.arguments",
        messages=[*HELLO, {"role": "assistant", "tool_calls": [
            {"id": "a", "function": {"name": "f"}}]}],
    ),
    "functions of old": chat(
        "functions is not supported by this server", "functions", functions=[{"name": "f"}]
    ),
    "tools for the template": chat(
        "chat_template_kwargs must not set tools", "chat_template_kwargs",
        chat_template_kwargs={"tools": []},
    ),
    "unknown tier": chat("service_tier", "service_tier", service_tier="first"),
    # completions
    "best of fewer": completion(
        "best_of is 1 and n is 2; best_of must not be less than n", "best_of", best_of=1, n=2
    ),
    "best of a stream": completion(
        "cannot be streamed", "best_of", best_of=3, stream=True
    ),
    # responses
    "no input": response("input", "input", input=[]),
    "unknown item": response(
        "the type item_reference is not supported", "input.0",
        input=[{"type": "item_reference", "id": "x"}],
    ),
    "image": response(
        "part 0 is of type input_image", "input.0.content",
        input=[{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}],
    ),
    "unknown tool": response(
        "Input should be 'function'", "tools.0.type", tools=[{"type": "web_search"}]
    ),
    "truncation": response("truncation is not supported", "truncation", truncation="auto"),
    "nothing before": response(
        "There is no response resp_1", "previous_response_id",
        previous_response_id="resp_1", status=404,
    ),
    "stream in the background": response(
        "leave stream away", "stream", background=True, stream=True
    ),
    "background that is not stored": response(
        "leave store away", "store", background=True, store=False
    ),
    "too long an answer": response(
        "the model holds 256 in all", "max_output_tokens", max_output_tokens=999
    ),
    "too long an input": response("Shorten the prompt", "input", input="hello " * 300),
    "wrong schema": response(
        "Invalid type: banana", "text.format",
        text={"format": {"type": "json_schema", "name": "x", "schema": {"type": "banana"}}},
    ),
    "cancel of what runs in front": Wrong(
        path="/v1/responses/resp_1/cancel", body={}, says="There is no response resp_1",
        param=None, status=404,
    ),
    # batches and files
    "batch without a file": batch("There is no file file-1", None, status=404),
    "batch of another route": batch("endpoint", "endpoint", endpoint="/v1/moderations"),
    "batch with another window": batch(
        "completion_window", "completion_window", completion_window="1h"
    ),
    "batch with long metadata": batch("metadata", "metadata.a", metadata={"a": "x" * 513}),
    "results that expire at once": batch(
        "output_expires_after.seconds", "output_expires_after.seconds",
        output_expires_after={"anchor": "created_at", "seconds": 1},
    ),
    "file as JSON": Wrong(
        path="/v1/files", body={"purpose": "batch"}, param=None, status=415,
        says="Content-Type is application/json; send the file as multipart/form-data",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_request_is_refused_with_a_sentence(wrong, chat_server: RunningServer):
    response = chat_server.client.post(wrong.path, json=wrong.body)
    assert response.status_code == wrong.status, response.text
    error = response.json()["error"]
    assert wrong.says in error["message"]
    assert error["param"] == wrong.param
    assert error["type"] == "invalid_request_error"
    assert "\n" not in error["message"]


def upload(server: RunningServer, **fields: Any) -> Any:
    return server.client.post("/v1/files", files={"file": ("a", b"x")}, data=fields).json()


def test_uploads_with_mistakes(chat_server):
    assert upload(chat_server)["error"]["message"] == "purpose is missing"
    says = "purpose is vision; this server uses files for batches only: send batch"
    assert upload(chat_server, purpose="vision")["error"]["message"] == says
    short = upload(chat_server, purpose="batch", **{"expires_after[seconds]": "5"})
    assert "expires_after[seconds]" in short["error"]["message"]
    missing = chat_server.client.post("/v1/files", files={"purpose": (None, "batch")})
    assert missing.json()["error"]["message"] == "file is missing"


def test_after_all_of_them_the_server_still_answers(chat_server):
    answer = chat_server.post("/v1/chat/completions", model="tiny", messages=HELLO, max_tokens=1)
    assert answer.status_code == 200
