"""The cache through HTTP: what comes from it is what the model says, and X-Cache says the truth."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from openai import OpenAI

from modelserver_runtime.settings import Settings
from support.fake_model import CountingBackend, fake_model
from support.runtime_server import RunningServer, running_server, settings_for
from support.waiting import wait_until

pytestmark = pytest.mark.slow

CHAT = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "the quick brown fox"}],
    "max_tokens": 8,
    "temperature": 0,
}


@pytest.fixture(scope="module")
def server(causal_directory) -> Iterator[RunningServer]:
    with running_server(settings_for(causal_directory, cache_max_entries=500)) as server:
        yield server


def a_chat(text: str, **changes: Any) -> dict[str, Any]:
    return {**CHAT, "messages": [{"role": "user", "content": text}], **changes}


def chat(server: RunningServer, text: str, headers: Any = None, **changes: Any) -> httpx.Response:
    body = a_chat(text, **changes)
    return server.client.post("/v1/chat/completions", json=body, headers=headers)


def answer_of(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()["choices"]


def events_of(response: httpx.Response) -> list[Any]:
    lines = [line for line in response.text.splitlines() if line]
    assert lines[-1] == "data: [DONE]"
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    return [{**event, "id": "", "created": 0} for event in events]


def metric(server: RunningServer, name: str, **labels: str) -> float:
    registry = server.context.telemetry.registry
    labels = {"model": "demo", "revision": "5d9f7c1a", **labels}
    return registry.get_sample_value(f"modelserver_{name}", labels) or 0.0


def test_the_second_time_is_a_hit_and_says_the_same(server):
    first, second = chat(server, "a hit"), chat(server, "a hit")
    assert [first.headers["x-cache"], second.headers["x-cache"]] == ["miss", "hit"]
    assert answer_of(first) == answer_of(second)
    assert second.headers["age"] == "0"
    assert "age" not in first.headers
    assert second.headers["cache-control"] in {"private, max-age=3600", "private, max-age=3599"}
    assert first.json()["id"] != second.json()["id"]


def test_usage_says_which_tokens_were_not_computed(server):
    first, second = chat(server, "usage").json(), chat(server, "usage").json()
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    prompt_tokens = second["usage"]["prompt_tokens"]
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == prompt_tokens > 0
    assert first["usage"]["completion_tokens"] == second["usage"]["completion_tokens"]


def test_a_stored_answer_streams_in_the_same_chunks(server):
    options = {"stream": True, "stream_options": {"include_usage": True}}
    first, second = (chat(server, "a stream", **options) for _ in range(2))
    assert [first.headers["x-cache"], second.headers["x-cache"]] == ["miss", "hit"]
    assert first.headers["content-type"] == second.headers["content-type"]
    one, other = events_of(first), events_of(second)
    assert len(one) > 3
    assert one[:-1] == other[:-1]
    assert one[-1]["usage"]["completion_tokens"] == other[-1]["usage"]["completion_tokens"]
    assert one[-1]["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    cached = other[-1]["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached == other[-1]["usage"]["prompt_tokens"]


def test_one_stream_says_nothing_about_another(server):
    for _ in range(2):
        chat(server, "streamed twice", stream=True)
    hit = chat(server, "streamed twice", stream=True)
    assert (hit.headers["x-cache"], hit.headers["age"]) == ("hit", "0")
    miss = chat(server, "streamed once", stream=True)
    assert (miss.headers["x-cache"], "age" in miss.headers) == ("miss", False)
    refused = {"cache-control": "no-store"}
    bypassed = chat(server, "streamed once", refused, stream=True)
    assert bypassed.headers.get_list("x-cache") == ["bypass"]
    assert bypassed.headers["cache-control"] == "no-cache"


def test_a_stream_and_a_whole_answer_are_one(server):
    whole = chat(server, "one answer")
    streamed = chat(server, "one answer", stream=True)
    assert streamed.headers["x-cache"] == "hit"
    text = "".join(event["choices"][0]["delta"].get("content", "") for event in events_of(streamed))
    assert text == answer_of(whole)[0]["message"]["content"]


def test_log_probabilities_come_back_as_they_were(server):
    options = {"logprobs": True, "top_logprobs": 3}
    first, second = (chat(server, "probable", **options) for _ in range(2))
    assert second.headers["x-cache"] == "hit"
    assert answer_of(first) == answer_of(second)
    assert chat(server, "probable").headers["x-cache"] == "miss"


def test_routes_share_answers_where_prompts_are_the_same(server):
    body = {"inputs": "servers answer", "parameters": {"max_new_tokens": 6}}
    first = server.client.post("/generate", json=body)
    second = server.client.post(
        "/v1/completions",
        json={"model": "tiny", "prompt": "servers answer", "max_tokens": 6, "temperature": 0},
    )
    assert [first.headers["x-cache"], second.headers["x-cache"]] == ["miss", "hit"]
    assert first.json()["generated_text"] == second.json()["choices"][0]["text"]


def test_prompts_of_one_request_are_known_one_by_one(server):
    def complete(*prompts: str) -> httpx.Response:
        body = {"model": "tiny", "prompt": prompts, "max_tokens": 4, "temperature": 0}
        return server.client.post("/v1/completions", json=body)

    known = complete("known one")
    generated = metric(server, "generated_tokens_total")
    mixed = complete("new one", "known one")
    assert mixed.headers["x-cache"] == "miss"
    assert answer_of(mixed)[1]["text"] == answer_of(known)[0]["text"]
    assert metric(server, "generated_tokens_total") - generated <= 4
    usage = mixed.json()["usage"]
    known_tokens = known.json()["usage"]["prompt_tokens"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == known_tokens
    assert complete("known one", "new one").headers["x-cache"] == "hit"


def test_equal_choices_are_computed_once(server):
    generated = metric(server, "generated_tokens_total")
    answer = chat(server, "choices", n=5)
    texts = [choice["message"]["content"] for choice in answer_of(answer)]
    assert len(texts) == 5
    assert len(set(texts)) == 1
    assert metric(server, "generated_tokens_total") - generated <= 8
    assert answer.headers["x-cache"] == "miss"


def test_samples_are_not_kept(server):
    for seed in (None, 7):
        outcomes = [
            chat(server, "sampled", temperature=1, seed=seed).headers["x-cache"] for _ in range(2)
        ]
        assert outcomes == ["bypass", "bypass"]


def test_seeded_samples_are_kept_if_the_client_says_so(server):
    headers = {"x-cache-sampled": "true"}
    first, second = (chat(server, "seeded", headers, temperature=1, seed=7, n=2) for _ in range(2))
    assert [first.headers["x-cache"], second.headers["x-cache"]] == ["miss", "hit"]
    assert answer_of(first) == answer_of(second)
    assert chat(server, "seeded", headers, temperature=1, seed=8).headers["x-cache"] == "miss"
    assert chat(server, "seeded", headers, temperature=1).headers["x-cache"] == "bypass"


def test_no_store_neither_reads_nor_keeps(server):
    headers = {"cache-control": "no-store"}
    outcomes = [
        chat(server, "secret", headers).headers["x-cache"],
        chat(server, "secret").headers["x-cache"],
        chat(server, "secret", headers).headers["x-cache"],
    ]
    assert outcomes == ["bypass", "miss", "bypass"]
    assert chat(server, "secret", headers).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("control", ["no-cache", "max-age=0", "No-Cache , max-age=5"])
def test_no_cache_computes_again_and_keeps(server, control):
    headers = {"cache-control": control}
    outcomes = [
        chat(server, control, headers).headers["x-cache"],
        chat(server, control, headers).headers["x-cache"],
        chat(server, control).headers["x-cache"],
    ]
    assert outcomes == ["miss", "miss", "hit"]


def test_only_if_cached_never_computes(server):
    headers = {"cache-control": "only-if-cached"}
    refused = chat(server, "only", headers)
    assert refused.status_code == 504
    assert refused.json()["error"]["code"] == "not_cached"
    assert refused.headers["x-should-retry"] == "false"
    assert refused.headers["cache-control"] == "no-store"
    chat(server, "only")
    known = chat(server, "only", headers)
    assert (known.status_code, known.headers["x-cache"]) == (200, "hit")
    sampled = chat(server, "only", headers, temperature=1)
    assert sampled.status_code == 504


def test_a_max_age_that_is_not_over_is_a_hit(server):
    chat(server, "young")
    assert chat(server, "young", {"cache-control": "max-age=600"}).headers["x-cache"] == "hit"
    assert chat(server, "young", {"cache-control": "max-age=soon"}).headers["x-cache"] == "hit"


def test_another_salt_is_another_answer(server):
    chat(server, "salted")
    assert chat(server, "salted", cache_salt="mine").headers["x-cache"] == "miss"
    assert chat(server, "salted", cache_salt="mine").headers["x-cache"] == "hit"


def test_failures_are_not_kept(server):
    for _ in range(2):
        refused = chat(server, "long", max_tokens=100_000)
        assert refused.status_code == 400
        assert "x-cache" not in refused.headers


def test_routes_that_ask_no_model_say_nothing(server):
    assert "x-cache" not in server.client.get("/v1/models").headers


def test_hits_are_counted(server):
    chat(server, "counted")
    names = ("cache_misses_total", "cache_saved_tokens_total", "cache_entries", "cache_bytes")
    before = {name: metric(server, name) for name in names}
    hits = metric(server, "cache_hits_total", level="memory")
    usage = chat(server, "counted").json()["usage"]
    assert metric(server, "cache_hits_total", level="memory") - hits == 1
    assert metric(server, "cache_misses_total") == before["cache_misses_total"]
    saved = metric(server, "cache_saved_tokens_total") - before["cache_saved_tokens_total"]
    assert saved == usage["prompt_tokens"] + usage["completion_tokens"]
    assert before["cache_entries"] >= 1
    assert before["cache_bytes"] >= 100 * before["cache_entries"]


def test_the_official_client_reads_the_headers(server):
    client = OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    for expected in ("miss", "hit"):
        raw = client.chat.completions.with_raw_response.create(**a_chat("official"))
        assert raw.headers["x-cache"] == expected
        details = raw.parse().usage.prompt_tokens_details
        assert bool(details.cached_tokens) == (expected == "hit")


def test_embeddings_are_known_one_by_one(embedder_directory):
    with running_server(settings_for(embedder_directory, cache_max_entries=9)) as server:

        def embed(*texts: str) -> httpx.Response:
            return server.post("/v1/embeddings", model="tiny", input=texts)

        first = embed("one", "two")
        steps = metric(server, "batch_size_sum")
        mixed = embed("two", "three", "one")
        assert [first.headers["x-cache"], mixed.headers["x-cache"]] == ["miss", "miss"]
        assert metric(server, "batch_size_sum") - steps == 1
        vectors = [entry["embedding"] for entry in mixed.json()["data"]]
        assert [vectors[2], vectors[0]] == [e["embedding"] for e in first.json()["data"]]
        assert embed("three").headers["x-cache"] == "hit"


def test_tasks_are_known_one_by_one(classifier_directory):
    with running_server(settings_for(classifier_directory, cache_max_entries=9)) as server:
        first = server.post("/predict", inputs="a good day")
        second = server.post("/predict", inputs="a good day")
        assert [first.headers["x-cache"], second.headers["x-cache"]] == ["miss", "hit"]
        assert first.json() == second.json()
        other = server.post("/predict", inputs="a good day", parameters={"top_k": 1})
        assert other.headers["x-cache"] == "miss"
        batch = server.post("/batch-predict", inputs=["a good day", "a bad day"])
        assert batch.headers["x-cache"] == "miss"
        assert batch.json()["results"][0]["output"] == first.json()["output"]
        again = server.post("/batch-predict", inputs=["a bad day", "a good day"])
        assert again.headers["x-cache"] == "hit"


@pytest.fixture
def counting(tmp_path) -> Iterator[tuple[RunningServer, CountingBackend]]:
    backend = CountingBackend()
    settings = Settings(
        model_directory=tmp_path, served_name="tiny", name="demo", revision="5d9f7c1a"
    )
    with running_server(settings, fake_model(backend)) as server:
        yield server, backend


def generate(server: RunningServer, inputs: str, *, stream: bool = False) -> httpx.Response:
    body = {"inputs": inputs, "parameters": {"max_new_tokens": 8}, "stream": stream}
    return server.client.post("/generate", json=body)


def leave_early(server: RunningServer) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/generate", json={"inputs": "abc"}, timeout=0.4)


def in_flight(server: RunningServer) -> float:
    return metric(server, "inflight_requests")


def test_identical_requests_at_once_cost_one_generation(counting):
    server, backend = counting
    backend.may_step.clear()
    with ThreadPoolExecutor(50) as pool:
        answers = [
            pool.submit(generate, server, "abc", stream=index % 2 == 1) for index in range(50)
        ]
        wait_until(lambda: in_flight(server) == 50, timeout=20, what="all have come")
        backend.may_step.set()
        responses = [answer.result() for answer in answers]
    assert len(backend.prompts) == 1
    outcomes = [response.headers["x-cache"] for response in responses]
    assert (outcomes.count("miss"), outcomes.count("coalesced")) == (1, 49)
    assert {response.json()["generated_text"] for response in responses[::2]} == {"abcdefgh"}
    for response in responses[1::2]:
        assert "".join(event["text"] for event in events_of(response)) == "abcdefgh"


def test_a_leader_that_goes_away_takes_nobody_with_it(counting):
    server, backend = counting
    backend.may_step.clear()
    gone = threading.Event()

    def lead() -> None:
        leave_early(server)
        gone.set()

    leader = threading.Thread(target=lead)
    leader.start()
    wait_until(lambda: in_flight(server) == 1, timeout=10, what="the leader has come")
    with ThreadPoolExecutor(1) as pool:
        follower = pool.submit(server.client.post, "/generate", json={"inputs": "abc"})
        assert gone.wait(10)
        wait_until(lambda: in_flight(server) == 1, timeout=10, what="the leader has gone")
        backend.may_step.set()
        assert follower.result().headers["x-cache"] == "coalesced"
    leader.join()
    assert len(backend.prompts) == 1
    assert server.post("/generate", inputs="abc").headers["x-cache"] == "hit"


def test_a_client_that_goes_away_alone_leaves_nothing_behind(counting):
    server, backend = counting
    backend.may_step.clear()
    leave_early(server)
    backend.may_step.set()
    wait_until(lambda: not backend.live, timeout=10, what="the sequence is freed")
    assert server.post("/generate", inputs="abc").headers["x-cache"] == "miss"


def test_a_failure_of_the_model_is_not_kept(counting):
    server, backend = counting
    for _ in range(2):
        refused = generate(server, "m")
        assert refused.status_code == 500
        assert refused.headers["x-cache"] == "miss"
    assert len(backend.prompts) == 2


def test_without_entries_there_is_no_cache(chat_server):
    assert chat_server.context.cache is None
    assert "x-cache" not in chat(chat_server, "none").headers
