"""Structured answers through the official client: whatever the model is, they have their form."""

import concurrent.futures
import json
import re
from typing import Any, Literal

import pytest
from openai import BadRequestError, LengthFinishReasonError, OpenAI
from pydantic import BaseModel, Field

from support.runtime_server import RunningServer

HELLO = [{"role": "user", "content": "hello"}]


class Weather(BaseModel, extra="forbid"):
    city: Literal["Köln", "Lima"]
    degrees: int = Field(ge=-40, le=50)
    words: list[Literal["sun", "rain"]] = Field(min_length=1, max_length=3)


SCHEMA = Weather.model_json_schema()
FORMAT = {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA}}


@pytest.fixture(scope="module")
def client(roomy_server: RunningServer) -> OpenAI:
    return OpenAI(base_url=f"{roomy_server.url}/v1", api_key="none", max_retries=0)


def chat(client: OpenAI, **options: Any) -> Any:
    return client.chat.completions.create(
        **{"model": "tiny", "messages": HELLO, "max_tokens": 400, **options}
    )


def structured(client: OpenAI, **wanted: Any) -> str:
    answer = chat(client, extra_body={"structured_outputs": wanted})
    assert answer.choices[0].finish_reason == "stop"
    return str(answer.choices[0].message.content)


@pytest.mark.parametrize("temperature", [0, 2])
def test_parse_gives_an_object(client, temperature):
    answer = client.chat.completions.parse(
        model="tiny", messages=HELLO, response_format=Weather, temperature=temperature
    )
    assert isinstance(answer.choices[0].message.parsed, Weather)
    assert answer.choices[0].finish_reason == "stop"


def test_a_stream_has_the_same_text_as_the_whole_answer(client):
    options = {"response_format": FORMAT, "seed": 4, "temperature": 1}
    whole = chat(client, **options).choices[0].message.content
    chunks = list(chat(client, stream=True, **options))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    Weather.model_validate_json(whole)


def test_choices_differ_and_all_have_the_form(client):
    answers = chat(client, response_format=FORMAT, n=4, seed=1, temperature=2).choices
    parsed = [Weather.model_validate_json(answer.message.content) for answer in answers]
    assert len({weather.model_dump_json() for weather in parsed}) > 1


def test_log_probabilities_are_those_of_the_tokens_that_were_said(client):
    answer = chat(client, response_format=FORMAT, logprobs=True, top_logprobs=2).choices[0]
    said = b"".join(bytes(entry.bytes) for entry in answer.logprobs.content)
    assert said.decode() == answer.message.content


def test_json_object_gives_an_object(client):
    answer = chat(client, response_format={"type": "json_object"}, max_tokens=200)
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(answer.choices[0].message.content), dict)
    assert answer.choices[0].message.content.lstrip().startswith("{")


def test_other_forms(client):
    assert re.fullmatch(r"[a-c]{3}-[0-9]", structured(client, regex=r"[a-c]{3}-[0-9]"))
    assert structured(client, choice=["yes", 'no "or" so', "Grüße"]) in {
        "yes",
        'no "or" so',
        "Grüße",
    }
    assert structured(client, grammar='start: "a" | "b"') in {"a", "b"}
    assert structured(client, grammar='root ::= "x" | "y"') in {"x", "y"}
    Weather.model_validate_json(structured(client, json=SCHEMA))
    Weather.model_validate_json(structured(client, json=json.dumps(SCHEMA)))


def test_completions_have_them_too(client):
    answer = client.completions.create(
        model="tiny",
        prompt=["one", "two"],
        max_tokens=200,
        extra_body={"structured_outputs": {"json": SCHEMA}},
    )
    for choice in answer.choices:
        Weather.model_validate_json(choice.text)


def test_a_cut_off_answer_says_so(client):
    with pytest.raises(LengthFinishReasonError):
        client.chat.completions.parse(
            model="tiny", messages=HELLO, response_format=Weather, max_tokens=3
        )


def test_forms_and_plain_answers_run_side_by_side(client):
    plain = {"seed": 9, "temperature": 1, "max_tokens": 60}
    alone = chat(client, **plain).choices[0].message.content

    def ask(number: int) -> Any:
        if number % 3 == 0:
            return chat(client, **plain)
        if number % 3 == 1:
            return chat(client, response_format=FORMAT, temperature=1)
        with pytest.raises(BadRequestError):
            chat(client, extra_body={"structured_outputs": {"regex": "("}})
        return None

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(6)))
    for number, answer in enumerate(answers):
        if number % 3 == 0:
            assert answer.choices[0].message.content == alone
        elif number % 3 == 1:
            Weather.model_validate_json(answer.choices[0].message.content)


def test_a_format_of_text_changes_nothing(client):
    options = {"seed": 3, "temperature": 1, "max_tokens": 20}
    plain = chat(client, **options)
    same = chat(client, response_format={"type": "text"}, **options)
    assert same.choices[0].message.content == plain.choices[0].message.content


def test_the_details_of_usage_and_the_tier(client):
    answer = chat(
        client,
        max_tokens=3,
        service_tier="auto",
        prediction={"type": "content", "content": "x"},
        metadata={"a": "b"},
        store=False,
    )
    details = answer.usage.completion_tokens_details
    assert (details.accepted_prediction_tokens, details.rejected_prediction_tokens) == (0, 0)
    assert answer.usage.prompt_tokens_details.cached_tokens == 0
    assert answer.service_tier == "default"
    assert chat(client, max_tokens=1, service_tier="flex").service_tier == "flex"
    assert chat(client, max_tokens=1).service_tier is None


def test_best_of_keeps_the_likeliest(client):
    options = {"model": "tiny", "prompt": "the", "max_tokens": 6, "seed": 5, "temperature": 1}
    tried = client.completions.create(**options, n=6, logprobs=0)
    best = client.completions.create(**options, n=2, best_of=6)

    def likelihood(choice: Any) -> float:
        logprobs = choice.logprobs.token_logprobs
        return sum(logprobs) / len(logprobs)

    ranked = sorted(tried.choices, key=likelihood, reverse=True)
    assert [choice.text for choice in best.choices] == [choice.text for choice in ranked[:2]]
    assert [choice.index for choice in best.choices] == [0, 1]
    assert best.choices[0].logprobs is None
    assert best.usage.completion_tokens == tried.usage.completion_tokens
