"""/v1/responses through the official client."""

import json
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from modelserver_runtime.errors import ResourceNotFound
from modelserver_runtime.rest.jobs.calls import Call
from modelserver_runtime.rest.jobs.owner import Owner
from modelserver_runtime.rest.jobs.responses import ResponseStore, StoredResponse
from modelserver_runtime.rest.responding.progress import new_response
from modelserver_runtime.rest.responding.translation import messages_of
from modelserver_runtime.rest.schemas.responses import ResponsesRequest
from support.runtime_server import RunningServer, settings_for
from support.waiting import wait_until

TOOLS = [
    {
        "type": "function",
        "name": "now",
        "parameters": {
            "type": "object",
            "properties": {"zone": {"enum": ["UTC", "CET"]}},
            "required": ["zone"],
            "additionalProperties": False,
        },
        "strict": True,
    }
]


class Choice(BaseModel, extra="forbid"):
    letter: Literal["a", "b"]


@pytest.fixture(scope="module")
def client(roomy_server: RunningServer) -> OpenAI:
    return OpenAI(base_url=f"{roomy_server.url}/v1", api_key="none", max_retries=0)


def create(client: OpenAI, **options: Any) -> Any:
    given = {"model": "tiny", "input": "hello", "max_output_tokens": 5}
    return client.responses.create(**{**given, **options})


def until_ended(client: OpenAI, begun: Any) -> Any:
    def look() -> Any:
        found = client.responses.retrieve(begun.id)
        return None if found.status in {"queued", "in_progress"} else found

    return wait_until(look, timeout=30, what="the response has ended", interval=0.02)


def test_a_response_says_what_was_asked_and_answered(client):
    response = create(client, instructions="Be kind", metadata={"a": "b"}, temperature=0)
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output_text
    assert response.instructions == "Be kind"
    assert response.metadata == {"a": "b"}
    assert response.usage.output_tokens == 5
    assert response.usage.total_tokens == response.usage.input_tokens + 5
    assert response.output[0].role == "assistant"


def test_it_says_what_a_chat_says(client):
    chat = client.chat.completions.create(
        model="tiny",
        messages=[{"role": "system", "content": "Be"}, {"role": "user", "content": "hello"}],
        temperature=0,
        max_tokens=5,
    )
    assert create(client, instructions="Be", temperature=0).output_text == (
        chat.choices[0].message.content
    )


def test_parse_gives_an_object(client):
    response = client.responses.parse(model="tiny", input="hello", text_format=Choice)
    assert response.status == "completed"
    assert isinstance(response.output_parsed, Choice)


def test_a_stream_tells_of_each_step_in_order(client):
    options = {"temperature": 0, "max_output_tokens": 8}
    whole = create(client, **options)
    events = list(create(client, stream=True, **options))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = list(dict.fromkeys(event.type for event in events))
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text
    assert events[-1].response.output_text == whole.output_text
    assert events[0].response.output == []
    assert events[2].item.content == []


def test_the_wire_has_names_of_events(roomy_server):
    body = {"model": "tiny", "input": "x", "max_output_tokens": 1, "stream": True}
    text = roomy_server.client.post("/v1/responses", json=body).text
    first = text.split("\n\n")[0].splitlines()
    assert first[0] == "event: response.created"
    assert json.loads(first[1].removeprefix("data: "))["type"] == "response.created"
    assert "[DONE]" not in text


def test_calls_are_streamed_and_answered(client):
    with client.responses.stream(
        model="tiny", input="hello", tools=TOOLS, tool_choice="required", parallel_tool_calls=False
    ) as stream:
        kinds = [event.type for event in stream]
        response = stream.get_final_response()
    assert "response.function_call_arguments.delta" in kinds
    assert kinds[-1] == "response.completed"
    [call] = response.output
    assert call.name == "now"
    assert call.parsed_arguments["zone"] in {"UTC", "CET"}
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "12:00"}
    following = create(client, previous_response_id=response.id, input=[result], tools=TOOLS)
    assert following.usage.input_tokens > response.usage.input_tokens
    by_hand = create(
        client,
        input=[
            {"role": "user", "content": "hello"},
            {"type": "function_call", "call_id": "c", "name": "now", "arguments": call.arguments},
            {**result, "call_id": "c"},
        ],
        tools=TOOLS,
    )
    assert by_hand.usage.input_tokens == following.usage.input_tokens


def test_a_conversation_goes_on_from_what_was_stored(client):
    first = create(client, temperature=0)
    second = create(client, previous_response_id=first.id, input="and?", temperature=0)
    by_hand = create(
        client,
        temperature=0,
        input=[
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": first.output_text},
            {"role": "user", "content": "and?"},
        ],
    )
    assert second.output_text == by_hand.output_text
    assert second.previous_response_id == first.id
    items = client.responses.input_items.list(second.id, order="asc").data
    assert [item.role for item in items] == ["user", "assistant", "user"]
    assert items[0].content[0].text == "hello"
    newest = client.responses.input_items.list(second.id, limit=1)
    assert newest.data[0].content[0].text == "and?"
    assert newest.has_more


def test_responses_are_kept_until_they_are_deleted(client):
    kept, forgotten = create(client), create(client, store=False)
    assert client.responses.retrieve(kept.id) == kept
    client.responses.delete(kept.id)
    for gone in (kept, forgotten):
        with pytest.raises(openai.NotFoundError, match="There is no response"):
            client.responses.retrieve(gone.id)
        with pytest.raises(openai.NotFoundError):
            create(client, previous_response_id=gone.id)


def test_in_the_background(client):
    begun = create(client, background=True, temperature=0)
    assert begun.status == "queued"
    ended = until_ended(client, begun)
    assert ended.id == begun.id
    assert ended.background
    assert ended.output_text == create(client, temperature=0).output_text
    assert client.responses.cancel(begun.id).status == "incomplete"


def test_a_failure_in_the_background_is_told(client):
    begun = create(client, background=True, model="nobody")
    failed = until_ended(client, begun)
    assert failed.status == "failed"
    assert "nobody" in failed.error.message


def test_log_probabilities(client):
    response = create(
        client, include=["message.output_text.logprobs"], top_logprobs=2, temperature=0
    )
    logprobs = response.output[0].content[0].logprobs
    assert len(logprobs) == response.usage.output_tokens > 0
    assert len(logprobs[0].top_logprobs) == 2
    assert create(client).output[0].content[0].logprobs == []


def test_calls_belong_to_the_message_before_them():
    message = {"type": "message", "role": "assistant", "content": [{"text": "I look"}]}
    call = {"type": "function_call", "call_id": "c", "name": "now", "arguments": "{}"}
    reasoning = {"type": "reasoning", "summary": []}
    messages = messages_of(None, [message, reasoning, call, {**call, "call_id": "d"}])
    [only] = messages
    assert only["content"] == "I look"
    assert [entry["id"] for entry in only["tool_calls"]] == ["c", "d"]


class _Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Iterator[_Time]:
    return _Time()


def stored(tenant: str, created_at: int) -> StoredResponse:
    body = ResponsesRequest.model_validate({"model": "tiny", "input": "x"})
    return StoredResponse(
        tenant=tenant, response=new_response(body, created_at), history=(), inputs=()
    )


def test_the_store_is_bounded_by_number_time_and_tenant(tmp_path, time):
    settings = settings_for(tmp_path, max_stored_responses=2, stored_responses_ttl_seconds=60)
    store = ResponseStore(settings, time)
    entries = [stored("a", 1000), stored("a", 1000), stored("b", 1000)]
    for entry in entries:
        store.keep(entry)
    ids = [entry.response.id for entry in entries]
    with pytest.raises(ResourceNotFound):
        store.find("a", ids[0])
    assert store.find("a", ids[1]) is entries[1]
    with pytest.raises(ResourceNotFound):
        store.find("a", ids[2])
    time.now += 61
    with pytest.raises(ResourceNotFound):
        store.find("b", ids[2])


def test_the_store_is_bounded_by_size(tmp_path, time, monkeypatch):
    monkeypatch.setattr("modelserver_runtime.rest.jobs.responses._MOST_BYTES", 1000)
    store = ResponseStore(settings_for(tmp_path), time)
    large, small = stored("", 1000), stored("", 1000)
    large.inputs = [{"text": "x" * 990}]
    store.keep(large)
    store.keep(small)
    with pytest.raises(ResourceNotFound):
        store.find("", large.response.id)
    assert store.find("", small.response.id) is small


def test_a_job_keeps_no_key_in_sight():
    call = Call(path="/x", content=b"", owner=Owner(headers=((b"authorization", b"Bearer k"),)))
    assert "Bearer" not in repr(call)
