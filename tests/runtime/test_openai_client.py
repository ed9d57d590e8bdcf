"""What the official client relies on beside the answers: errors by class, retries, headers."""

import base64
from collections.abc import Iterator

import numpy as np
import openai
import pytest
from openai import OpenAI

from support.fake_model import CountingBackend, fake_model
from support.runtime_server import RunningServer, running_server, settings_for

HELLO = [{"role": "user", "content": "hello"}]


def client_of(server: RunningServer, retries: int = 0) -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=retries)


@pytest.fixture(scope="module")
def fake_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    settings = settings_for(tmp_path_factory.mktemp("fake"))
    with running_server(settings, fake_model(CountingBackend())) as server:
        yield server


def test_errors_have_their_classes(chat_server, fake_server):
    client = client_of(chat_server)
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="tiny", messages=HELLO, temperature=9)
    assert bad.value.param == "temperature"
    assert bad.value.type == "invalid_request_error"
    assert bad.value.request_id
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-9", messages=HELLO)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-9")
    with pytest.raises(openai.InternalServerError) as failed:
        client_of(fake_server).completions.create(model="tiny", prompt=[13])
    assert failed.value.code == "backend_failure"


@pytest.mark.slow
def test_a_server_that_is_not_ready_is_asked_again(causal_directory):
    with running_server(settings_for(causal_directory), is_loaded=False) as server:
        asked = 0

        def count(_: object) -> None:
            nonlocal asked
            asked += 1

        client = client_of(server, retries=1)
        client._client.event_hooks = {"request": [count]}
        with pytest.raises(openai.InternalServerError) as refused:
            client.completions.create(model="tiny", prompt="the")
        assert refused.value.status_code == 503
        assert asked == 2


def test_a_mistake_of_the_client_is_not_repeated(chat_server):
    client = client_of(chat_server, retries=5)
    asked = []
    client._client.event_hooks = {"request": [asked.append]}
    with pytest.raises(openai.BadRequestError):
        client.completions.create(model="tiny", prompt="the", temperature=9)
    assert len(asked) == 1


def test_raw_answers_have_their_headers(chat_server):
    client = client_of(chat_server)
    raw = client.chat.completions.with_raw_response.create(
        model="tiny", messages=HELLO, max_tokens=1, extra_headers={"x-request-id": "mine-1"}
    )
    assert raw.headers["x-request-id"] == "mine-1"
    assert raw.headers["x-model-revision"] == "5d9f7c1a"
    assert raw.parse()._request_id == "mine-1"
    with client.chat.completions.with_streaming_response.create(
        model="tiny", messages=HELLO, max_tokens=1, stream=True
    ) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")


def test_embeddings_are_the_same_in_both_encodings(embedding_server):
    client = client_of(embedding_server)
    decoded = client.embeddings.create(model="tiny", input="the").data[0].embedding
    floats = client.embeddings.create(model="tiny", input="the", encoding_format="float")
    assert decoded == pytest.approx(floats.data[0].embedding)
    raw = client.embeddings.create(model="tiny", input="the", encoding_format="base64")
    vector = np.frombuffer(base64.b64decode(raw.data[0].embedding), dtype="<f4")
    assert vector.tolist() == pytest.approx(decoded)


def test_a_stream_may_end_with_usage_and_say_nothing_of_it_before(chat_server):
    chunks = list(
        client_of(chat_server).chat.completions.create(
            model="tiny",
            messages=HELLO,
            max_tokens=4,
            n=2,
            stream=True,
            stream_options={"include_usage": True, "include_obfuscation": False},
        )
    )
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens <= 8
    assert len({chunk.id for chunk in chunks}) == 1


def test_models_are_listed(chat_server):
    assert [model.id for model in client_of(chat_server).models.list()] == ["tiny", "also-tiny"]
