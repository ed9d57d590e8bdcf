"""What the model says through the server is what it says by itself."""

import concurrent.futures
import json
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from openai import OpenAI
from transformers import AutoModelForCausalLM, AutoTokenizer

from modelserver_runtime.backends import loading
from support import tiny_models
from support.runtime_server import RunningServer, running_server, settings_for

PROMPTS = ["the quick brown", "Köln: naïve", "servers answer questions when", "a"]


@pytest.fixture(scope="module")
def client(chat_server: RunningServer) -> OpenAI:
    return OpenAI(base_url=f"{chat_server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def reference(causal_directory: Path) -> Any:
    model = AutoModelForCausalLM.from_pretrained(causal_directory)
    tokenizer = AutoTokenizer.from_pretrained(causal_directory)

    def generate(prompt: str, tokens: int) -> list[int]:
        inputs = tokenizer(prompt, return_tensors="pt")
        with torch.inference_mode():
            output = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
        return output[0, inputs["input_ids"].shape[1] :].tolist()

    generate.tokenizer = tokenizer
    return generate


def complete(client: OpenAI, prompt: Any, **options: Any) -> Any:
    return client.completions.create(
        **{"model": "tiny", "prompt": prompt, "temperature": 0, "max_tokens": 24, **options}
    )


def streamed(client: OpenAI, prompt: Any, **options: Any) -> tuple[dict[int, str], list[Any]]:
    chunks = list(complete(client, prompt, stream=True, **options))
    texts: dict[int, str] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.text
    return texts, chunks


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_answers_are_those_of_generate(client, reference, prompt):
    answer = complete(client, prompt, logprobs=0, max_tokens=40)
    expected = reference(prompt, 40)
    assert answer.usage.completion_tokens == len(expected)
    texts = [reference.tokenizer.decode([token]) for token in expected]
    kept = texts[:-1] if answer.choices[0].finish_reason == "stop" else texts
    assert answer.choices[0].logprobs.tokens == kept


def test_greedy_answers_are_the_same_whatever_else_is_running(client, reference):
    prompts = PROMPTS * 4
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda prompt: complete(client, prompt, logprobs=0), prompts))
    for prompt, answer in zip(prompts, answers, strict=True):
        texts = [reference.tokenizer.decode([token]) for token in reference(prompt, 24)]
        assert answer.choices[0].logprobs.tokens == texts[: len(answer.choices[0].logprobs.tokens)]
        assert answer.usage.completion_tokens == len(texts)


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("stop", [None, ["e"], ["ou", "th"]])
def test_a_streamed_answer_is_the_whole_answer(client, prompt, stop):
    whole = complete(client, prompt, stop=stop, seed=5, temperature=1, max_tokens=60)
    texts, chunks = streamed(client, prompt, stop=stop, seed=5, temperature=1, max_tokens=60)
    assert texts == {0: whole.choices[0].text}
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    for word in stop or ():
        assert word not in whole.choices[0].text


def test_a_long_prompt_computed_in_chunks_gives_the_same_answer(causal_directory, reference):
    prompt = "the quick brown fox " * 12
    settings = settings_for(causal_directory, max_batch_tokens=16)
    with running_server(settings) as server:
        client = OpenAI(base_url=f"{server.url}/v1", api_key="none")
        answer = complete(client, prompt, max_tokens=12)
        assert answer.usage.prompt_tokens > 16
        expected = reference(prompt, 12)
        assert answer.usage.completion_tokens == len(expected)
        rest = reference.tokenizer.decode(expected, skip_special_tokens=True)
        assert answer.choices[0].text.strip() == rest.strip()


def test_a_seed_repeats_an_answer_and_choices_differ(client):
    first = complete(client, "the", temperature=1, seed=11, n=3)
    second = complete(client, "the", temperature=1, seed=11, n=3)
    texts = [choice.text for choice in first.choices]
    assert texts == [choice.text for choice in second.choices]
    assert len(set(texts)) == 3
    assert complete(client, "the", temperature=1, seed=12).choices[0].text not in texts


def test_without_a_seed_answers_differ(client):
    texts = {complete(client, "the", temperature=1).choices[0].text for _ in range(4)}
    assert len(texts) > 1


def test_usage_counts_every_prompt_once_and_every_choice(client):
    single = complete(client, "the quick", max_tokens=3, n=1)
    several = complete(client, ["the quick", "the quick"], max_tokens=3, n=2, temperature=1)
    assert several.usage.prompt_tokens == 2 * single.usage.prompt_tokens
    assert several.usage.completion_tokens == 4 * 3
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]


def test_streamed_usage_comes_last_and_only_when_asked(client):
    _, chunks = streamed(client, "the", stream_options={"include_usage": True}, max_tokens=5)
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 5
    assert all(chunk.usage is None for chunk in chunks[:-1])
    _, chunks = streamed(client, "the", max_tokens=5)
    assert all(chunk.usage is None for chunk in chunks)


def test_echo_begins_with_the_prompt_and_can_score_it(client):
    answer = complete(client, "the quick brown", echo=True, max_tokens=0, logprobs=1)
    [choice] = answer.choices
    assert choice.text == "the quick brown"
    assert "".join(choice.logprobs.tokens) == "the quick brown"
    assert choice.logprobs.token_logprobs[0] is None
    assert all(value < 0 for value in choice.logprobs.token_logprobs[1:])
    assert answer.usage.completion_tokens == 0


def test_prompt_scores_are_those_of_the_model(client, causal_directory):
    model = AutoModelForCausalLM.from_pretrained(causal_directory)
    tokenizer = AutoTokenizer.from_pretrained(causal_directory)
    ids = tokenizer("servers answer", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        scores = torch.log_softmax(model(ids).logits[0, :-1], dim=-1)
    expected = [float(row[token]) for row, token in zip(scores, ids[0, 1:], strict=True)]
    answer = complete(client, ids[0].tolist(), echo=True, max_tokens=1, logprobs=0)
    found = answer.choices[0].logprobs.token_logprobs[1 : len(expected) + 1]
    assert found == pytest.approx(expected, abs=1e-4)


def test_the_most_likely_alternative_of_a_greedy_token_is_the_token(client):
    choice = complete(client, "the", logprobs=3, max_tokens=6).choices[0]
    for token, logprob, top in zip(
        choice.logprobs.tokens,
        choice.logprobs.token_logprobs,
        choice.logprobs.top_logprobs,
        strict=True,
    ):
        assert max(top.values()) == pytest.approx(logprob)
        assert top[token] == pytest.approx(logprob)


def test_a_strong_bias_decides_and_a_ban_is_kept(client, reference):
    wanted = reference.tokenizer.convert_tokens_to_ids("x")
    answer = complete(client, "the", logit_bias={str(wanted): 100}, max_tokens=4)
    assert answer.choices[0].text == "xxxx"
    banned = reference("the", 1)[0]
    answer = complete(client, "the", logit_bias={str(banned): -100}, max_tokens=1, logprobs=0)
    assert answer.choices[0].logprobs.tokens != [reference.tokenizer.decode([banned])]


def test_a_repetition_penalty_is_that_of_generate(client, causal_directory, reference):
    model = AutoModelForCausalLM.from_pretrained(causal_directory)
    inputs = reference.tokenizer("the quick", return_tensors="pt")
    with torch.inference_mode():
        output = model.generate(
            **inputs, max_new_tokens=20, do_sample=False, repetition_penalty=1.5
        )
    expected = output[0, inputs["input_ids"].shape[1] :].tolist()
    answer = complete(
        client, "the quick", max_tokens=20, logprobs=0, extra_body={"repetition_penalty": 1.5}
    )
    assert answer.choices[0].logprobs.tokens == [
        reference.tokenizer.decode([token]) for token in expected
    ]


def test_frequent_tokens_are_penalised(client, reference):
    wanted = reference.tokenizer.convert_tokens_to_ids("x")
    options = {"logit_bias": {str(wanted): 12}, "max_tokens": 20}
    plain = complete(client, "the", **options).choices[0].text
    penalised = complete(client, "the", frequency_penalty=2, **options).choices[0].text
    assert penalised.count("x") < plain.count("x")


@pytest.mark.parametrize("option", [{"top_k": 1}, {"min_p": 1.0}])
def test_narrow_sampling_is_greedy(client, option):
    greedy = complete(client, "the quick").choices[0].text
    assert complete(client, "the quick", temperature=2, extra_body=option).choices[0].text == greedy


def test_a_tiny_nucleus_is_greedy(client):
    greedy = complete(client, "the quick").choices[0].text
    assert complete(client, "the quick", temperature=2, top_p=1e-6).choices[0].text == greedy


def test_an_end_token_ends_the_answer_and_is_counted(client, reference):
    end = reference.tokenizer.eos_token_id
    answer = complete(client, "the", logit_bias={str(end): 100})
    assert answer.choices[0].text == ""
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == 1
    ignored = complete(
        client, "the", logit_bias={str(end): 100}, max_tokens=3, extra_body={"ignore_eos": True}
    )
    assert ignored.choices[0].finish_reason == "length"
    late = complete(
        client, "the", logit_bias={str(end): 100}, max_tokens=9, extra_body={"min_tokens": 4}
    )
    assert late.usage.completion_tokens == 5


def test_a_chat_is_the_template_completed(client, reference):
    messages = [
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "hello"}]},
    ]
    answer = client.chat.completions.create(
        model="also-tiny", messages=messages, temperature=0, max_completion_tokens=16
    )
    prompt = "<|system|>be kind<|end|><|user|>hello<|end|><|assistant|>"
    assert answer.model == "also-tiny"
    assert answer.usage.prompt_tokens == len(reference.tokenizer(prompt)["input_ids"])
    expected = reference.tokenizer.decode(reference(prompt, 16), skip_special_tokens=True)
    assert answer.choices[0].message.content == expected


def test_a_streamed_chat_is_the_whole_chat(client):
    request = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "hello"}],
        "seed": 3,
        "n": 2,
        "max_tokens": 20,
        "logprobs": True,
        "top_logprobs": 2,
    }
    whole = client.chat.completions.create(**request)
    texts, tokens, reasons = {0: "", 1: ""}, {0: [], 1: []}, {}
    chunks = list(client.chat.completions.create(**request, stream=True))
    assert len({chunk.id for chunk in chunks}) == 1
    for chunk in chunks:
        [choice] = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        if choice.logprobs:
            tokens[choice.index] += [entry.token for entry in choice.logprobs.content]
        reasons[choice.index] = choice.finish_reason
    for choice in whole.choices:
        assert texts[choice.index] == choice.message.content
        assert tokens[choice.index] == [entry.token for entry in choice.logprobs.content]
        assert reasons[choice.index] == choice.finish_reason
    entry = whole.choices[0].logprobs.content[0]
    assert len(entry.top_logprobs) == 2


def test_the_clients_own_errors_are_raised(client):
    messages = [{"role": "user", "content": "hello"}]
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-4o", messages=messages)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model="tiny", prompt="the", max_tokens=10_000)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4o")


def test_models_are_listed_and_retrieved_by_name_and_alias(client):
    assert [model.id for model in client.models.list()] == ["tiny", "also-tiny"]
    assert client.models.retrieve("also-tiny").max_model_len == tiny_models.MOST_TOKENS


def test_headers_reach_the_client(client):
    raw = client.completions.with_raw_response.create(model="tiny", prompt="the", max_tokens=1)
    assert raw.headers["x-model-revision"] == "5d9f7c1a"
    assert raw.parse()._request_id == raw.headers["x-request-id"]


def test_the_stream_is_events_that_end_with_done(chat_server):
    body = {"model": "tiny", "prompt": "the", "stream": True, "max_tokens": 2}
    response = chat_server.post("/v1/completions", **body)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [line for line in response.text.split("\n\n") if line]
    assert events[-1] == "data: [DONE]"
    assert all(json.loads(event.removeprefix("data: ")) for event in events[:-1])


def test_generate_answers_text_with_text(chat_server, reference):
    body = {"inputs": "the quick", "parameters": {"max_new_tokens": 8}}
    answer = chat_server.post("/generate", **body).json()
    tokens = reference("the quick", 8)
    assert answer["generated_tokens"] == len(tokens)
    full = chat_server.post(
        "/generate", inputs="the quick", parameters={"max_new_tokens": 8, "return_full_text": True}
    ).json()
    assert full["generated_text"] == "the quick" + answer["generated_text"]
    stream = chat_server.post("/generate", **body, stream=True).text
    pieces = [json.loads(line[6:]) for line in stream.split("\n\n") if line[6:7] == "{"]
    assert "".join(piece["text"] for piece in pieces) == answer["generated_text"]
    assert pieces[-1]["finish_reason"] == answer["finish_reason"]


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ({"avx2", "avx512bw", "avx512vl", "avx512dq"}, "bfloat16"),
        ({"bf16", "asimd"}, "bfloat16"),
        ({"avx2", "fma"}, "float32"),
    ],
)
def test_a_model_in_bfloat16_stays_so_where_the_processor_multiplies_it(
    tmp_path, monkeypatch, flags, dtype
):
    monkeypatch.setattr(loading, "processor_flags", lambda: frozenset(flags))
    path = tiny_models.causal_model(tmp_path / "half", dtype=torch.bfloat16)
    with running_server(settings_for(path)) as server:
        assert server.client.get("/health").json()["serves"]["dtype"] == dtype
        assert server.post("/generate", inputs="the").status_code == 200


def test_a_model_without_a_template_says_where_to_go(tmp_path):
    path = tiny_models.causal_model(tmp_path / "plain", template=None)
    with running_server(settings_for(path)) as server:
        messages = [{"role": "user", "content": "hello"}]
        response = server.post("/v1/chat/completions", model="tiny", messages=messages)
        assert response.status_code == 400
        assert "no chat template" in response.json()["error"]["message"]
        assert "/v1/completions" in response.json()["error"]["message"]
