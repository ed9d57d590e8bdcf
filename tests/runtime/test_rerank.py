"""/v1/rerank and /v1/score, by a cross-encoder and by vectors."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from support.runtime_server import RunningServer

QUERY = "fox"
DOCUMENTS = ["the quick brown fox", "servers answer questions", "models are loaded"]


def results(server: RunningServer, **body: Any) -> list[dict[str, Any]]:
    given = {"model": "tiny", "query": QUERY, "documents": DOCUMENTS}
    response = server.post("/v1/rerank", **{**given, **body})
    assert response.status_code == 200, response.text
    return response.json()["results"]


def test_a_cross_encoder_ranks_as_it_scores(rerank_server):
    directory = Path(rerank_server.context.settings.model_directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForSequenceClassification.from_pretrained(directory)
    inputs = tokenizer([QUERY] * 3, DOCUMENTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = torch.sigmoid(model(**inputs).logits[:, 0]).tolist()
    ranked = results(rerank_server)
    scores = [entry["relevance_score"] for entry in ranked]
    assert scores == sorted(scores, reverse=True)
    for entry in ranked:
        assert entry["relevance_score"] == pytest.approx(expected[entry["index"]], abs=1e-5)
        assert entry["document"] == {"text": DOCUMENTS[entry["index"]]}
    assert rerank_server.post("/v1/rerank", query="a", documents=["b"]).json()["usage"] is None


def test_an_embedder_ranks_by_cosine(embedding_server):
    texts = [QUERY, *DOCUMENTS]
    data = embedding_server.post("/v1/embeddings", model="tiny", input=texts).json()["data"]
    query, *vectors = [torch.tensor(entry["embedding"]) for entry in data]
    for entry in results(embedding_server):
        cosine = float(query @ vectors[entry["index"]])
        assert entry["relevance_score"] == pytest.approx(cosine, abs=1e-5)
    body = embedding_server.post("/rerank", query=QUERY, documents=DOCUMENTS).json()
    assert body["usage"]["total_tokens"] > 0
    assert body["model"] == "tiny"


def test_only_the_best_without_their_texts(embedding_server):
    ranked = results(embedding_server, top_n=1, return_documents=False)
    assert [entry["document"] for entry in ranked] == [None]
    assert ranked[0]["index"] == results(embedding_server)[0]["index"]


def test_documents_may_be_objects(embedding_server):
    objects = [{"text": text, "title": "x"} for text in DOCUMENTS]
    assert results(embedding_server, documents=objects) == results(embedding_server)


@pytest.mark.parametrize("fixture", ["embedding_server", "rerank_server"])
def test_scores_are_in_the_order_of_the_texts(fixture, request):
    server = request.getfixturevalue(fixture)
    one = server.post("/v1/score", model="tiny", text_1=QUERY, text_2=DOCUMENTS).json()
    pairs = server.post("/v1/score", text_1=[QUERY] * 3, text_2=DOCUMENTS).json()
    scores = {entry["index"]: entry["score"] for entry in one["data"]}
    assert scores == pytest.approx({entry["index"]: entry["score"] for entry in pairs["data"]})
    ranked = {entry["index"]: entry["relevance_score"] for entry in results(server)}
    assert scores == pytest.approx(ranked, abs=1e-5)


WRONG = {
    "no query": ("embedding_server", {"query": ""}, "query: ", "query"),
    "no documents": ("embedding_server", {"documents": []}, "documents: ", "documents"),
    "an empty document": (
        "embedding_server", {"documents": ["a", ""]}, "documents.1", "documents.1",
    ),
    "a document without a text": (
        "embedding_server", {"documents": [{"title": "x"}]}, "documents.0", "documents.0",
    ),
    "none wanted": ("embedding_server", {"top_n": 0}, "top_n", "top_n"),
    "a long document": (
        "embedding_server",
        {"documents": ["a", "quick " * 100]},
        "documents.1 has 102 tokens, and the model takes at most 32",
        "documents.1",
    ),
    "a long pair": (
        "rerank_server",
        {"documents": ["a", "quick " * 100]},
        "and the model takes at most 64",
        "documents.1",
    ),
    "too many": ("task_server", {"documents": ["a"] * 11}, "at most 10", "documents"),
    "several labels": (
        "task_server", {}, "has 3 labels; only one with a single label compares texts", None,
    ),
    "a model that generates": (
        "chat_server", {}, "served for TextGeneration and does not compare texts", None,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("fixture", "body", "says", "param"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_request_is_refused_with_a_sentence(fixture, body, says, param, request):
    server = request.getfixturevalue(fixture)
    given = {"model": "tiny", "query": QUERY, "documents": DOCUMENTS}
    response = server.post("/v1/rerank", **{**given, **body})
    assert response.status_code == 400
    error = response.json()["error"]
    assert says in error["message"]
    assert error["param"] == param


def test_texts_that_make_no_pairs(embedding_server):
    response = embedding_server.post("/v1/score", text_1=["a", "b"], text_2=["c"])
    assert "text_1 has 2 texts and text_2 has 1" in response.json()["error"]["message"]
