"""Vectors: the model's own, of length 1, in both encodings, whatever shares their batch."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from openai import OpenAI
from safetensors.torch import save_file
from transformers import AutoModel, AutoTokenizer

from support import tiny_models
from support.runtime_server import RunningServer, running_server, settings_for

TEXTS = ["the quick brown fox", "a", "questions and answers, one two three", "lazy dog"]


@pytest.fixture(scope="module")
def client(embedding_server: RunningServer) -> OpenAI:
    return OpenAI(base_url=f"{embedding_server.url}/v1", api_key="none", max_retries=0)


def reference(directory: Path, text: str, pooling: str) -> np.ndarray:
    model = AutoModel.from_pretrained(directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    with torch.inference_mode():
        hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
    match pooling:
        case "pooling_mode_cls_token":
            vector = hidden[0]
        case "pooling_mode_max_tokens":
            vector = hidden.max(dim=0).values
        case "pooling_mode_lasttoken":
            vector = hidden[-1]
        case "pooling_mode_weightedmean_tokens":
            weights = torch.arange(1, len(hidden) + 1)[:, None]
            vector = (hidden * weights).sum(0) / weights.sum()
        case _:
            vector = hidden.mean(dim=0)
    return (vector / vector.norm()).numpy()


def test_vectors_are_those_of_the_model_alone_or_in_a_batch(client, embedder_directory):
    together = client.embeddings.create(model="tiny", input=TEXTS)
    for text, entry in zip(TEXTS, together.data, strict=True):
        expected = reference(embedder_directory, text, "pooling_mode_cls_token")
        assert entry.embedding == pytest.approx(expected, abs=1e-5)
        alone = client.embeddings.create(model="tiny", input=text).data[0].embedding
        assert alone == pytest.approx(expected, abs=1e-5)


def test_floats_and_base64_are_the_same_vector(embedding_server):
    floats = embedding_server.post(
        "/v1/embeddings", model="tiny", input="the", encoding_format="float"
    ).json()["data"][0]["embedding"]
    encoded = embedding_server.post(
        "/v1/embeddings", model="tiny", input="the", encoding_format="base64"
    ).json()["data"][0]["embedding"]
    decoded = np.frombuffer(base64.b64decode(encoded), dtype="<f4")
    assert floats == decoded.tolist()
    assert np.linalg.norm(decoded) == pytest.approx(1)


def test_tokens_may_be_sent_instead_of_text(client, embedder_directory):
    tokenizer = AutoTokenizer.from_pretrained(embedder_directory)
    tokens = tokenizer(TEXTS[0])["input_ids"]
    by_text = client.embeddings.create(model="tiny", input=TEXTS[0])
    by_tokens = client.embeddings.create(model="tiny", input=tokens)
    assert by_tokens.data[0].embedding == by_text.data[0].embedding
    assert by_tokens.usage.prompt_tokens == by_text.usage.prompt_tokens == len(tokens)


def test_many_inputs_keep_their_order(client):
    inputs = [f"{word} {index}" for index, word in enumerate(TEXTS * 20)]
    together = client.embeddings.create(model="tiny", input=inputs)
    assert [entry.index for entry in together.data] == list(range(80))
    for index in (0, 41, 79):
        alone = client.embeddings.create(model="tiny", input=inputs[index]).data[0].embedding
        assert together.data[index].embedding == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize(
    "pooling",
    [
        "pooling_mode_mean_tokens",
        "pooling_mode_max_tokens",
        "pooling_mode_lasttoken",
        "pooling_mode_weightedmean_tokens",
    ],
)
def test_pooling_is_what_the_model_says(tmp_path, pooling):
    path = tiny_models.sentence_transformer(tmp_path / "model", pooling=pooling)
    with running_server(settings_for(path)) as server:
        answer = server.post("/v1/embeddings", model="tiny", input=TEXTS[:2])
        for text, entry in zip(TEXTS[:2], answer.json()["data"], strict=True):
            assert entry["embedding"] == pytest.approx(reference(path, text, pooling), abs=1e-5)


def test_an_encoder_without_pooling_files_is_averaged(tmp_path):
    path = tiny_models.encoder(tmp_path / "model")
    with running_server(settings_for(path)) as server:
        vector = server.post("/v1/embeddings", model="tiny", input=TEXTS[0]).json()
        assert vector["data"][0]["embedding"] == pytest.approx(
            reference(path, TEXTS[0], "mean"), abs=1e-5
        )


def test_a_dense_layer_is_applied(tmp_path):
    path = tiny_models.sentence_transformer(tmp_path / "model")
    torch.manual_seed(0)
    layer = torch.nn.Linear(32, 8)
    modules = json.loads((path / "modules.json").read_text())
    modules.append(
        {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    )
    (path / "modules.json").write_text(json.dumps(modules))
    (path / "2_Dense").mkdir()
    (path / "2_Dense" / "config.json").write_text(
        json.dumps({"in_features": 32, "out_features": 8})
    )
    save_file(
        {"linear.weight": layer.weight.detach(), "linear.bias": layer.bias.detach()},
        path / "2_Dense" / "model.safetensors",
    )
    with running_server(settings_for(path)) as server:
        vector = server.post("/v1/embeddings", model="tiny", input="the").json()["data"][0]
    model, tokenizer = AutoModel.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    with torch.inference_mode():
        first = model(**tokenizer("the", return_tensors="pt")).last_hidden_state[0, 0]
        expected = torch.nn.functional.normalize(torch.tanh(layer(first)), dim=0)
    assert vector["embedding"] == pytest.approx(expected.numpy(), abs=1e-5)


def test_the_models_default_prompt_goes_before_texts_and_not_before_tokens(tmp_path):
    path = tiny_models.sentence_transformer(tmp_path / "model")
    prompts = {"prompts": {"query": "question "}, "default_prompt_name": "query"}
    (path / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    tokens = AutoTokenizer.from_pretrained(path)("question the fox")["input_ids"]
    with running_server(settings_for(path)) as server:
        by_text = server.post("/v1/embeddings", model="tiny", input="the fox").json()
        by_tokens = server.post("/v1/embeddings", model="tiny", input=tokens).json()
    assert by_text["data"] == by_tokens["data"]
    assert by_text["usage"]["prompt_tokens"] == len(tokens)


def test_a_nested_model_gives_shorter_vectors(tmp_path):
    path = tiny_models.sentence_transformer(tmp_path / "model")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "matryoshka_dimensions": [8, 16]}))
    with running_server(settings_for(path)) as server:
        body = {"model": "tiny", "input": "the"}
        whole = np.array(server.post("/v1/embeddings", **body).json()["data"][0]["embedding"])
        short = server.post("/v1/embeddings", **body, dimensions=8).json()["data"][0]["embedding"]
        assert short == pytest.approx(whole[:8] / np.linalg.norm(whole[:8]), abs=1e-6)
        wrong = server.post("/v1/embeddings", **body, dimensions=9)
        assert wrong.status_code == 400
        assert "it must be one of 8, 16" in wrong.json()["error"]["message"]
