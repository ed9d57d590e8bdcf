"""What a client predicts of an answer comes sooner; what it reads is the same."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from openai import BadRequestError, OpenAI

from modelserver_runtime.backends.native.speculation import RowCost
from support import tiny_models
from support.native_engine import needs_native_engine
from support.runtime_server import RunningServer, running_server, settings_for

pytestmark = needs_native_engine

MOST_GUESSED = 4
TOKENS = 40


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    path = tiny_models.causal_model(
        tmp_path_factory.mktemp("models") / "native", dtype=torch.bfloat16, width=128
    )
    settings = settings_for(path, speculative_tokens=MOST_GUESSED, cache_max_entries=100)
    with pytest.MonkeyPatch.context() as patch:
        # What a row takes here depends on what else the machine does.
        patch.setattr(RowCost, "share", property(lambda _: 0.05))
        with running_server(settings) as running:
            yield running


@pytest.fixture(scope="module")
def client(server: RunningServer) -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def chat(client: OpenAI, **options: Any) -> Any:
    """Computed, and never taken from what was answered before."""
    values = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "the quick brown fox"}],
        "max_tokens": TOKENS,
        "temperature": 0,
        "extra_headers": {"cache-control": "no-store"},
        "extra_body": {"ignore_eos": True},
    }
    return client.chat.completions.create(**{**values, **options})


def content(text: Any) -> dict[str, Any]:
    return {"type": "content", "content": text}


def predicted_tokens(usage: Any) -> tuple[int, int]:
    details = usage.completion_tokens_details
    return details.accepted_prediction_tokens, details.rejected_prediction_tokens


@pytest.fixture(scope="module")
def answer(client: OpenAI) -> str:
    text: str = chat(client).choices[0].message.content
    return text


def test_a_prediction_is_counted_and_changes_nothing(client, answer):
    plain = chat(client)
    assert predicted_tokens(plain.usage) == (0, 0)
    predicted = chat(client, prediction=content(answer))
    assert predicted.choices[0].message.content == answer
    accepted, rejected = predicted_tokens(predicted.usage)
    assert 0 < accepted < TOKENS
    assert rejected >= 0
    assert predicted.usage.completion_tokens == TOKENS


def test_a_prediction_may_be_in_parts_and_wrong(client, answer):
    begun = answer[: len(answer) // 2]
    parts = [{"type": "text", "text": begun}, {"type": "text", "text": "another end"}]
    predicted = chat(client, prediction=content(parts))
    assert predicted.choices[0].message.content == answer
    accepted, rejected = predicted_tokens(predicted.usage)
    assert accepted < TOKENS
    assert rejected > 0


@pytest.mark.parametrize("sampling", [{"seed": 5, "temperature": 1}, {"frequency_penalty": 1}])
def test_log_probabilities_and_samples_are_the_same(client, sampling):
    options = {"logprobs": True, "top_logprobs": 2, **sampling}
    plain = chat(client, **options).choices[0]
    predicted = chat(client, prediction=content(plain.message.content), **options).choices[0]
    assert predicted == plain


def test_a_stream_has_every_token_and_counts_the_prediction(client, answer):
    *chunks, last = list(
        chat(
            client,
            prediction=content(answer),
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == answer
    assert predicted_tokens(last.usage)[0] > 0
    assert last.usage.completion_tokens == TOKENS


def test_an_answer_ends_where_a_stop_string_is_guessed(client, answer):
    stop = answer[len(answer) // 2 :][:3]
    plain = chat(client, stop=[stop])
    predicted = chat(client, stop=[stop], prediction=content(answer))
    assert predicted.choices == plain.choices
    assert predicted.usage.completion_tokens == plain.usage.completion_tokens


def test_an_answer_that_was_stored_owes_nothing_to_a_prediction(client, answer):
    first = chat(client, prediction=content(answer), extra_headers={}, seed=11)
    again = chat(client, prediction=content("something else"), extra_headers={}, seed=11)
    assert predicted_tokens(first.usage)[0] > 0
    assert predicted_tokens(again.usage) == (0, 0)
    assert again.choices == first.choices
    assert again.usage.prompt_tokens_details.cached_tokens == again.usage.prompt_tokens


def test_what_was_guessed_is_measured(client, server, answer):
    chat(client, prediction=content(answer))
    page = server.client.get("/metrics").text
    values = {
        line.split("{")[0]: float(line.rsplit(" ", 1)[1])
        for line in page.splitlines()
        if line.startswith(("modelserver_speculated", "modelserver_accepted"))
    }
    accepted = values["modelserver_accepted_tokens_total"]
    assert 0 < accepted <= values["modelserver_speculated_tokens_total"]


@pytest.mark.parametrize(
    "wrong", [{"type": "content"}, {"type": "other", "content": "x"}, content([{"type": "x"}]), "x"]
)
def test_a_prediction_of_another_form_is_refused(client, wrong):
    with pytest.raises(BadRequestError, match="prediction"):
        chat(client, prediction=wrong)
