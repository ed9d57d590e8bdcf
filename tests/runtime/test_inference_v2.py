"""The Open Inference Protocol: tensors both ways, with the official clients and by hand."""

import json
import math
from contextlib import suppress
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from hypothesis import given
from hypothesis import strategies as st
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

from modelserver_runtime.errors import InvalidRequest
from modelserver_runtime.rest.inference_v2.tensors import (
    BYTES,
    NUMBERS,
    Tensor,
    as_bytes,
    as_json,
    tensor_of_bytes,
    tensor_of_json,
)
from support.runtime_server import RunningServer

pytestmark = pytest.mark.slow

SHAPES = st.lists(st.integers(0, 4), min_size=1, max_size=3).map(tuple)


@st.composite
def number_tensors(draw: st.DrawFn) -> Tensor:
    datatype, shape = draw(st.sampled_from(sorted(NUMBERS))), draw(SHAPES)
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    dtype = np.dtype(NUMBERS[datatype])
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = random.integers(limits.min, limits.max, shape, dtype.type, endpoint=True)
    else:
        values = random.standard_normal(shape) * 100
        values = values > 0 if dtype.kind == "b" else values
    flat = np.asarray(values, dtype=dtype).reshape(-1)
    return Tensor(name="x", datatype=datatype, shape=shape, values=flat)


@st.composite
def byte_tensors(draw: st.DrawFn) -> Tensor:
    shape = draw(SHAPES)
    size = math.prod(shape)
    text = st.text("aß€😀", max_size=4)
    return Tensor(
        name="x",
        datatype=BYTES,
        shape=shape,
        values=draw(st.lists(text, min_size=size, max_size=size)),
    )


def plain(tensor: Tensor) -> list[Any]:
    return as_json(tensor)


@given(st.one_of(number_tensors(), byte_tensors()))
def test_a_tensor_survives_bytes(tensor):
    back = tensor_of_bytes("x", tensor.datatype, tensor.shape, as_bytes(tensor), place="inputs.0")
    assert plain(back) == plain(tensor)


@given(st.one_of(number_tensors(), byte_tensors()), st.booleans())
def test_a_tensor_survives_json_flat_and_nested(tensor, is_nested):
    flat = json.loads(json.dumps(as_json(tensor)))
    data = flat
    if is_nested:
        data = np.array(flat, dtype=object).reshape(tensor.shape).tolist()
    back = tensor_of_json("x", tensor.datatype, tensor.shape, data, place="inputs.0")
    assert plain(back) == flat
    assert back.shape == tensor.shape


@given(st.binary(max_size=40), st.integers(0, 3))
def test_any_bytes_are_a_tensor_or_a_sentence(content, size):
    with suppress(InvalidRequest):
        tensor = tensor_of_bytes("x", BYTES, [size], content, place="inputs.0")
        assert as_bytes(tensor) == content


def test_lists_that_are_nested_without_end_are_no_danger():
    data: list[Any] = ["a"]
    for _ in range(100_000):
        data = [data]
    assert plain(tensor_of_json("x", BYTES, [1], data, place="inputs.0")) == ["a"]


# -- the server itself


def test_the_server_says_who_it_is(chat_server):
    about = chat_server.client.get("/v2").json()
    assert about["name"] == "modelserver-runtime"
    assert "binary_tensor_data" in about["extensions"]
    assert chat_server.client.get("/v2/health/live").json() == {"live": True}
    assert chat_server.client.get("/v2/health/ready").json() == {"ready": True}
    assert chat_server.client.get("/v2/models").json() == {"models": ["tiny", "also-tiny"]}


def test_a_model_says_what_it_takes_and_gives(classifier_server):
    about = classifier_server.client.get("/v2/models/tiny").json()
    assert (about["name"], about["versions"]) == ("tiny", ["1"])
    assert about["inputs"] == [{"name": "input", "datatype": "BYTES", "shape": [-1]}]
    assert [output["name"] for output in about["outputs"]] == ["label", "score"]
    assert classifier_server.client.get("/v2/models/tiny/versions/1").json() == about
    ready = classifier_server.client.get("/v2/models/tiny/versions/1/ready")
    assert ready.json() == {"name": "tiny", "ready": True}


@pytest.fixture(scope="module")
def classifier_server(task_server: RunningServer) -> RunningServer:
    return task_server


def infer(server: RunningServer, body: dict[str, Any], **options: Any) -> httpx.Response:
    return server.client.post("/v2/models/tiny/infer", json=body, **options)


def texts(*values: str, name: str = "input") -> dict[str, Any]:
    return {"name": name, "datatype": "BYTES", "shape": [len(values)], "data": list(values)}


def outputs(answer: httpx.Response) -> dict[str, dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return {output["name"]: output for output in answer.json()["outputs"]}


def test_a_classifier_gives_labels_and_scores_like_predict(classifier_server):
    body = {"id": "7", "inputs": [texts("good", "bad")], "parameters": {"top_k": 2}}
    answer = infer(classifier_server, body)
    assert answer.json()["id"] == "7"
    assert answer.json()["model_version"] == "1"
    found = outputs(answer)
    assert found["label"]["shape"] == found["score"]["shape"] == [2, 2]
    expected = [
        classifier_server.post("/predict", inputs=text, parameters={"top_k": 2}).json()["output"]
        for text in ("good", "bad")
    ]
    labels = [label["label"] for one in expected for label in one]
    scores = [label["score"] for one in expected for label in one]
    assert found["label"]["data"] == labels
    assert found["score"]["data"] == pytest.approx(scores, rel=1e-4)


def test_an_embedder_gives_vectors_like_the_route_of_openai(embedding_server):
    found = outputs(infer(embedding_server, {"inputs": [texts("the quick", "fox", name="text")]}))
    direct = embedding_server.post("/v1/embeddings", model="tiny", input=["the quick", "fox"])
    expected = np.array([one["embedding"] for one in direct.json()["data"]])
    assert found["embedding"]["shape"] == list(expected.shape)
    assert found["embedding"]["data"] == pytest.approx(expected.reshape(-1).tolist(), abs=1e-5)


def test_a_generator_goes_on_from_texts_and_from_tokens(chat_server):
    parameters = {"max_new_tokens": 5}
    found = outputs(
        infer(
            chat_server,
            {"inputs": [texts("the quick", "brown", name="text")], "parameters": parameters},
        )
    )
    direct = [
        chat_server.post("/generate", inputs=text, parameters=parameters).json()
        for text in ("the quick", "brown")
    ]
    assert found["text"]["data"] == [answer["generated_text"] for answer in direct]
    assert found["generated_tokens"]["data"] == [5, 5]
    assert found["finish_reason"]["data"] == ["length", "length"]
    tokenizer = chat_server.context.service.generation.backend.tokenizer
    ids = tokenizer.encode("the quick")
    tensor = {"name": "token_ids", "datatype": "INT64", "shape": [1, len(ids)], "data": list(ids)}
    found = outputs(infer(chat_server, {"inputs": [tensor], "parameters": parameters}))
    assert found["text"]["data"] == [direct[0]["generated_text"]]


@pytest.mark.parametrize("token", [-1, 1_000_000])
def test_a_token_that_the_model_does_not_have_is_named(chat_server, token):
    tensor = {"name": "token_ids", "datatype": "INT64", "shape": [1], "data": [token]}
    answer = infer(chat_server, {"inputs": [tensor]})
    assert answer.status_code == 400
    assert f"token_ids names token {token}, and the model has" in answer.json()["error"]


def test_only_the_outputs_that_are_wanted_come(classifier_server):
    body = {"inputs": [texts("good")], "outputs": [{"name": "score"}]}
    assert list(outputs(infer(classifier_server, body))) == ["score"]


def test_generate_answers_at_once_or_in_pieces(chat_server):
    body = {"text_input": "the quick", "parameters": {"max_new_tokens": 4}}
    whole = chat_server.client.post("/v2/models/tiny/generate", json=body)
    assert whole.json()["model_name"] == "tiny"
    streamed = chat_server.client.post("/v2/models/tiny/versions/1/generate_stream", json=body)
    events = [
        json.loads(line[6:]) for line in streamed.text.splitlines() if line.startswith("data")
    ]
    assert "".join(event["text_output"] for event in events) == whole.json()["text_output"]
    assert events[-1]["finish_reason"] == "length"


def test_the_repository_lists_loads_and_unloads(chat_server):
    ready = {"name": "tiny", "version": "1", "state": "READY", "reason": ""}
    index = chat_server.client.post("/v2/repository/index", json={"ready": True})
    assert index.json() == [ready, {**ready, "name": "also-tiny"}]
    assert chat_server.client.post("/v2/repository/index").json() == index.json()
    loaded = chat_server.client.post("/v2/repository/models/tiny/load")
    assert (loaded.status_code, loaded.json()) == (200, {})
    refused = chat_server.client.post("/v2/repository/models/tiny/unload")
    assert refused.status_code == 409  # the model that the server is made for
    assert isinstance(refused.json()["error"], str)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no inputs": ({"inputs": []}, "inputs"),
    "unknown field": ({"inputs": [texts("a")], "colour": 1}, "colour"),
    "wrong name": ({"inputs": [texts("a", name="x")]}, "The inputs are x; the model takes input"),
    "two inputs": ({"inputs": [texts("a"), texts("b")]}, "The inputs are input, input"),
    "wrong type": (
        {"inputs": [{**texts("a"), "datatype": "FP32", "data": [1.5]}]},
        "input is of datatype FP32; it must be BYTES",
    ),
    "no such type": ({"inputs": [{**texts("a"), "datatype": "TEXT"}]}, "inputs.0.datatype"),
    "no texts": (
        {"inputs": [{**texts("a"), "data": [1]}]},
        "inputs.0.data has 1, and its datatype",
    ),
    "too few": (
        {"inputs": [{**texts("a"), "shape": [3]}]},
        "inputs.0 has 1 values, and its shape [3] needs 3",
    ),
    "wrong shape": (
        {"inputs": [{**texts("a", "b"), "shape": [1, 2]}]},
        "input has the shape [1, 2]; it must be [n] or [n, 1]",
    ),
    "negative shape": ({"inputs": [{**texts("a"), "shape": [-1]}]}, "inputs.0.shape.0"),
    "empty": ({"inputs": [{**texts(), "shape": [0]}]}, "with at least one element"),
    "another model": (
        {"inputs": [texts("a")], "model_name": "other"},
        "model_name is 'other', and the path names 'tiny'",
    ),
    "no data": (
        {"inputs": [{"name": "input", "datatype": "BYTES", "shape": [1]}]},
        "inputs.0 needs either data or parameters.binary_data_size",
    ),
    "bytes that are not there": (
        {
            "inputs": [
                {
                    "name": "input",
                    "datatype": "BYTES",
                    "shape": [1],
                    "parameters": {"binary_data_size": 9},
                }
            ]
        },
        "inputs.0.parameters.binary_data_size is 9; 0 bytes are left",
    ),
    "no such output": (
        {"inputs": [texts("a")], "outputs": [{"name": "logits"}]},
        "There is no output logits; the model gives label, score",
    ),
    "no such parameter": (
        {"inputs": [texts("a")], "parameters": {"top_q": 1}},
        "top_q is not a known field; did you mean top_k?",
    ),
    "wrong parameter": (
        {"inputs": [texts("a")], "parameters": {"top_k": 0}},
        "parameters.top_k: Input should be greater than or equal to 1",
    ),
    "no flag": (
        {"inputs": [texts("a")], "parameters": {"binary_data_output": 1}},
        "parameters.binary_data_output is 1; it must be true or false",
    ),
    "too many": ({"inputs": [texts(*["a"] * 11)]}, "input has 11 entries; at most 10"),
    "empty text": ({"inputs": [texts("")]}, "inputs.0: String should have at least 1 character"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_the_shape_of_the_protocol(classifier_server, case):
    body, says = WRONG[case]
    answer = infer(classifier_server, body)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert says in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/tiny/versions/2", 404),
        ("GET", "/v2/models/tiny/versions/2/ready", 404),
        ("POST", "/v2/models/other/infer", 404),
        ("GET", "/v2/no/such/route", 404),
        ("GET", "/v2/models/tiny/infer", 404),
        ("POST", "/v2/health/live", 405),
        ("POST", "/v2/repository/models/other/load", 404),
    ],
)
def test_what_is_not_there_too(chat_server, method, path, status):
    answer = chat_server.client.request(method, path, json={"inputs": [texts("a")]})
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize("length", ["-1", "x", "1000", "٣"])
def test_a_length_of_the_json_that_cannot_be_is_named(classifier_server, length):
    headers = {"inference-header-content-length": length.encode()}
    answer = infer(classifier_server, {"inputs": [texts("a")]}, headers=headers)
    assert answer.status_code == 400
    assert "it must be the length of the JSON" in answer.json()["error"]


def test_a_compressed_body_is_not_read(classifier_server):
    answer = infer(classifier_server, {}, headers={"content-encoding": "gzip"})
    assert answer.status_code == 415


# -- the official clients


def address(server: RunningServer) -> str:
    return server.url.removeprefix("http://")


def test_tritons_client_sends_and_gets_binary_tensors(classifier_server):
    with triton.InferenceServerClient(address(classifier_server)) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("tiny")
        assert client.get_model_metadata("tiny")["inputs"][0]["name"] == "input"
        sent = triton.InferInput("input", [2], "BYTES")
        sent.set_data_from_numpy(np.array(["good", "bad"], dtype=object), binary_data=True)
        result = client.infer("tiny", [sent], request_id="9")
        assert result.as_numpy("score").dtype == np.float32
        assert result.as_numpy("score").shape == result.as_numpy("label").shape
        in_json = client.infer(
            "tiny", [sent], outputs=[triton.InferRequestedOutput("score", binary_data=False)]
        )
        assert in_json.as_numpy("score") == pytest.approx(result.as_numpy("score"), abs=1e-6)
        with pytest.raises(triton.InferenceServerException, match="There is no output"):
            client.infer("tiny", [sent], outputs=[triton.InferRequestedOutput("x")])


def test_tritons_client_gets_vectors_as_bytes(embedding_server):
    with triton.InferenceServerClient(address(embedding_server)) as client:
        sent = triton.InferInput("text", [1], "BYTES")
        sent.set_data_from_numpy(np.array(["the quick"], dtype=object))
        [vector] = client.infer("tiny", [sent]).as_numpy("embedding")
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-4)


async def test_kserves_client_infers(classifier_server):
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=30))
    url = classifier_server.url
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, model_name="tiny")
    sent = InferInput(name="input", shape=[1], datatype="BYTES", data=["good"])
    request = InferRequest(model_name="tiny", infer_inputs=[sent])
    answer = await client.infer(url, request, model_name="tiny")
    assert {output.name for output in answer.outputs} == {"label", "score"}
    await client.close()
