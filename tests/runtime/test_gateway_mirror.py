"""Copies of requests: who gets them, how answers are compared, and that nobody sees them."""

import asyncio
import base64
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_runtime.gateway.answers import Labels, Texts, Vectors, content_of
from modelserver_runtime.gateway.compare import compare
from modelserver_runtime.gateway.mirror import MirrorLimits
from support.web import (
    CANARY,
    STABLE,
    Upstream,
    bytes_answer,
    chat_events,
    json_answer,
    stream_answer,
    until,
    world,
)

pytestmark = pytest.mark.slow  # a server and sockets for nearly every test

CHAT = "/v1/chat/completions"
ALL = {"revision": CANARY, "percent": 100, "baselinePercent": 0}
JSON = "application/json"


def chat(text):
    return {"id": "x", "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}


@pytest.fixture
async def stable():
    return Upstream("stable", json_answer(chat("yes")))


@pytest.fixture
async def canary():
    return Upstream("canary", json_answer(chat("yes")))


@pytest.fixture
async def here(stable, canary):
    async with world(stable, canary) as made:
        yield made


async def test_a_copy_is_the_request_and_says_that_it_is_a_copy(here, stable, canary):
    here.follow(mirror=ALL)
    headers = {"authorization": "Bearer k", "x-request-id": "r1", "accept-encoding": "gzip"}
    answer = await here.client.post(CHAT, json={"n": 1}, headers=headers)
    await until(lambda: here.shadow.pairs)
    assert answer.headers["x-modelserver-revision"] == STABLE
    [copy] = canary.copies
    assert copy.json == {"n": 1}
    assert copy.headers["x-modelserver-shadow"] == "true"
    assert copy.headers["x-request-id"] == f"r1.copy-{CANARY}"
    assert copy.headers["authorization"] == "Bearer k"
    assert copy.headers["cache-control"] == "no-store"
    assert "accept-encoding" not in copy.headers
    assert (here.shadow.copied, here.shadow.disagreed, here.shadow.failed) == (1, 0, 0)
    assert here.counts(CANARY).requests == 0
    assert len(stable.requests) == 1


async def test_the_client_has_its_answer_before_the_copy_is_answered(here, canary):
    gate = asyncio.Event()
    plain = canary.answer

    async def slow(*arguments):
        await gate.wait()
        await plain(*arguments)

    canary.answer = slow
    here.follow(mirror=ALL)
    assert (await here.client.post(CHAT, json={})).status_code == 200
    await until(lambda: canary.copies)
    assert here.shadow.pairs == 0
    gate.set()
    await until(lambda: here.shadow.pairs == 1)


async def test_as_many_are_copied_as_is_said_and_as_many_of_these_asked_twice(here, stable, canary):
    here.follow(mirror={**ALL, "percent": 20, "baselinePercent": 50})
    for _ in range(50):
        await here.client.post(CHAT, json={})
    await until(lambda: here.shadow.pairs == 10 and here.shadow.baseline_pairs == 5)
    assert (len(canary.copies), len(stable.copies)) == (10, 5)
    assert (here.shadow.disagreed, here.shadow.baseline_disagreed) == (0, 0)


async def test_another_answer_is_a_disagreement_and_the_noise_is_stables_own(here, stable, canary):
    words = iter(["one", "two"])

    async def changing(*arguments):
        await json_answer(chat(next(words)))(*arguments)

    stable.answer = changing
    canary.answer = json_answer(chat("three"))
    here.follow(mirror={**ALL, "baselinePercent": 100})
    await here.client.post(CHAT, json={})
    await until(lambda: here.shadow.baseline_pairs)
    assert (here.shadow.disagreed, here.shadow.baseline_disagreed) == (1, 1)


async def test_a_stream_is_compared_by_what_it_says_and_not_by_its_pieces(here, stable, canary):
    stable.answer = stream_answer(*chat_events("he", "llo"))
    canary.answer = stream_answer(*chat_events("hel", "l", "o"))
    here.follow(mirror=ALL)
    await here.client.post(CHAT, json={"stream": True})
    await until(lambda: here.shadow.pairs == 1)
    canary.answer = stream_answer(*chat_events("bye!!!!!!!"))
    await here.client.post(CHAT, json={"stream": True})
    await until(lambda: here.shadow.pairs == 2)
    assert here.shadow.disagreed == 1
    assert here.shadow.as_json()["meanLengthRatio"] == 1.5


@pytest.mark.parametrize("status", [400, 500])
async def test_a_copy_with_an_error_has_failed_and_the_client_knows_nothing(here, canary, status):
    canary.answer = json_answer({"error": {}}, status)
    here.follow(mirror=ALL)
    assert (await here.client.post(CHAT, json={})).status_code == 200
    await until(lambda: here.shadow.failed == 1)
    assert here.shadow.pairs == 0


async def test_a_candidate_that_is_not_there_fails_its_copies(here):
    here.canary_url = "http://127.0.0.1:9"
    here.follow(mirror=ALL)
    assert (await here.client.post(CHAT, json={})).status_code == 200
    await until(lambda: here.shadow.failed == 1)


@pytest.mark.parametrize(
    ("method", "path", "content_type"),
    [
        ("GET", "/v1/models", JSON),
        ("DELETE", "/v1/files/f", JSON),
        ("POST", "/v1/files", JSON),
        ("POST", "/v1/batches", JSON),
        ("POST", "/admin/keys/generate", JSON),
        ("POST", "/models/load", JSON),
        ("POST", "/v2/repository/models/m/unload", JSON),
        ("POST", "/predict", "image/png"),
    ],
)
async def test_what_changes_something_is_never_copied(here, canary, method, path, content_type):
    here.follow(mirror=ALL)
    await here.client.request(method, path, content=b"{}", headers={"content-type": content_type})
    await here.client.post(CHAT, json={})
    await until(lambda: here.shadow.pairs == 1)
    assert len(canary.copies) == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (json_answer({}, 400), "notAnswered"),
        (bytes_answer(b"\x00\x01", kind="image/png"), "notComparable"),
        (json_answer(chat("x" * 5000)), "tooLarge"),
    ],
)
async def test_what_cannot_be_compared_is_not_asked_and_counted(stable, canary, answer, reason):
    stable.answer = answer
    limits = MirrorLimits(max_concurrent=1, max_body_bytes=2000, max_bytes=10_000)
    async with world(stable, canary, limits) as here:
        here.follow(mirror=ALL)
        await here.client.post(CHAT, json={})
        await until(lambda: here.shadow.skipped)
        assert dict(here.shadow.skipped) == {reason: 1}
        assert not canary.requests


async def test_a_request_that_is_too_large_passes_and_is_not_copied(stable, canary):
    limits = MirrorLimits(max_concurrent=1, max_body_bytes=2000, max_bytes=10_000)

    async def pieces():
        for _ in range(5):
            yield b" " * 500 + b"{}"

    async with world(stable, canary, limits) as here:
        here.follow(mirror=ALL)
        big = json.dumps({"text": "x" * 3000}).encode()
        for content in (big, pieces()):
            answer = await here.client.post(CHAT, content=content, headers={"content-type": JSON})
            assert answer.status_code == 200
        await until(lambda: here.shadow.skipped["tooLarge"] == 2)
        assert not canary.requests


async def test_copies_beyond_their_number_are_skipped(stable, canary):
    gate = asyncio.Event()
    plain = canary.answer

    async def slow(*arguments):
        await gate.wait()
        await plain(*arguments)

    canary.answer = slow
    limits = MirrorLimits(max_concurrent=2, max_body_bytes=2000, max_bytes=10_000)
    async with world(stable, canary, limits) as here:
        here.follow(mirror=ALL)
        for _ in range(5):
            await here.client.post(CHAT, json={})
        await until(lambda: here.shadow.skipped["busy"] == 3)
        gate.set()
        await until(lambda: here.shadow.pairs == 2)


async def test_copies_beyond_their_memory_are_skipped(stable, canary):
    gate = asyncio.Event()
    plain = canary.answer

    async def slow(*arguments):
        await gate.wait()
        await plain(*arguments)

    canary.answer = slow
    limits = MirrorLimits(max_concurrent=9, max_body_bytes=2000, max_bytes=3000)
    async with world(stable, canary, limits) as here:
        here.follow(mirror=ALL)
        for _ in range(3):
            await here.client.post(CHAT, json={"text": "x" * 1000})
        await until(lambda: here.shadow.skipped["noMemory"] >= 1)
        gate.set()
        await until(lambda: here.shadow.pairs == here.shadow.copied)
        await here.client.post(CHAT, json={"text": "x" * 1500})  # all memory has come back
        await until(lambda: here.shadow.pairs == here.shadow.copied)
        assert here.shadow.copied >= 2


async def test_a_client_that_leaves_is_not_copied(here, stable, canary):
    gate = asyncio.Event()
    stable.answer = stream_answer(*chat_events("a", "b"), gate=gate)
    here.follow(mirror=ALL)
    async with here.client.stream("POST", CHAT, json={}) as answer:
        await anext(answer.aiter_raw())
    await until(lambda: here.shadow.skipped["notAnswered"] == 1)
    gate.set()
    assert not canary.requests


# -- comparing -----------------------------------------------------------------------------------


def read(content, kind=JSON, want="Auto"):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return content_of(body, kind, want)


def labels(*pairs):
    return [{"label": label, "score": score} for label, score in pairs]


def tool_call(identity):
    function = {"name": "f", "arguments": "{}"}
    message = {"content": None, "tool_calls": [{"id": identity, "function": function}]}
    return {"choices": [{"message": message}]}


BASE64 = base64.b64encode(struct.pack("<2f", 1.0, 0.5)).decode()


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        (chat("hi"), Texts(("hi",))),
        ({"choices": [{"text": "a"}, {"text": "b"}]}, Texts(("a", "b"))),
        (tool_call("1"), Texts(("f{}",))),
        ({"generated_text": "x", "prompt_tokens": 1}, Texts(("x",))),
        ({"model_name": "m", "text_output": "x"}, Texts(("x",))),
        ({"task": "Summarization", "output": [{"summary_text": "s"}]}, Texts(("s",))),
        ({"task": "T", "output": labels(("a", 0.2), ("b", 0.8))}, Labels(("b",))),
        ([*labels(("a", 0.9)), *labels(("b", 0.1))], Labels(("a",))),
        (
            {"results": [{"index": 0, "output": labels(("a", 1))}, {"output": labels(("b", 1))}]},
            Labels(("a", "b")),
        ),
        ({"output": {"labels": ["x", "y"], "scores": [0.1, 0.9]}}, Labels(("y",))),
        ({"output": [{"label": "cat", "score": 1, "box": {}}] * 2}, Labels(("cat,cat",))),
        (
            {"results": [{"index": 1, "relevance_score": 3}, {"index": 0, "relevance_score": 1}]},
            Labels(("1,0",)),
        ),
        ({"object": "list", "data": [{"embedding": [1, 0]}]}, Vectors(((1, 0),))),
        ({"object": "list", "data": [{"embedding": BASE64}]}, Vectors(((1.0, 0.5),))),
        ({"task": "FeatureExtraction", "output": [[1.0, 2.0]]}, Vectors(((1.0, 2.0),))),
        (
            {"outputs": [{"datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}]},
            Vectors(((1, 2), (3, 4))),
        ),
        ({"outputs": [{"datatype": "BYTES", "shape": [1], "data": ["b"]}]}, Labels(("b",))),
        ({"object": "list", "data": [{"score": 0.5}]}, None),
        ({"unknown": 1}, None),
        (b"no json", None),
        ([], None),
        ({"output": None}, None),
    ],
)
def test_what_is_compared_is_found_by_the_shape_of_an_answer(answer, content):
    assert read(answer) == content


def test_a_stream_that_ends_in_an_error_is_not_compared():
    body = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: {"error":{}}\n\n'
    assert read(body, "text/event-stream") is None


@pytest.mark.parametrize(
    ("want", "is_found"), [("Auto", True), ("Text", True), ("Label", False), ("Embedding", False)]
)
def test_only_what_is_wanted_is_compared(want, is_found):
    assert (read(chat("a"), want=want) is not None) == is_found


@given(st.binary(max_size=200), st.sampled_from([JSON, "text/event-stream", ""]))
def test_no_answer_can_break_the_comparison(body, kind):
    content_of(body, kind, "Auto")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "data", "object", "outputs", "results", "output", "label"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(json_values)
def test_no_shape_can_break_the_comparison(value):
    content = read(value)
    if content is not None:
        assert compare(content, content, min_cosine_percent=98).agrees


@pytest.mark.parametrize(
    ("one", "other", "agrees"),
    [
        (Texts(("a",)), Texts(("a",)), True),
        (Texts(("a",)), Texts(("a", "b")), False),
        (Texts(("a",)), Labels(("a",)), False),
        (Texts(("a",)), None, False),
        (Vectors(((1.0, 0.0),)), Vectors(((2.0, 0.0),)), True),
        (Vectors(((1.0, 0.0),)), Vectors(((1.0, 0.1),)), True),
        (Vectors(((1.0, 0.0),)), Vectors(((1.0, 0.3),)), False),
        (Vectors(((1.0, 0.0),)), Vectors(((1.0, 0.0, 0.0),)), False),
        (Vectors(((1.0,), (1.0,))), Vectors(((1.0,),)), False),
        (Vectors(((0.0,),)), Vectors(((0.0,),)), True),
    ],
)
def test_answers_agree(one, other, agrees):
    assert compare(one, other, min_cosine_percent=98).agrees == agrees
