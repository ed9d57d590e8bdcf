"""Several models over HTTP: described, loaded, unloaded, named by requests, counted apart."""

import json

import pytest

from support.runtime_server import running_server, settings_for


@pytest.fixture(scope="module")
def house(causal_directory, embedder_directory, classifier_directory):
    models = [
        {"name": "vectors", "aliases": ["v"], "directory": str(embedder_directory)},
        {"name": "labels", "directory": str(classifier_directory)},
        {"name": "broken", "uri": "file:///no/such/folder"},
    ]
    settings = settings_for(causal_directory, models=json.dumps(models), max_loaded_models=2)
    with running_server(settings) as server:
        yield server


def metric(server, name, model):
    for line in server.client.get("/metrics").text.splitlines():
        if line.startswith(name) and f'model="{model}"' in line:
            return float(line.rsplit(" ", 1)[1])
    return 0.0


def states(server):
    return {each["name"]: each["state"] for each in server.client.get("/models").json()["models"]}


def test_a_request_for_a_known_model_loads_it_and_another_gives_way(house):
    vector = house.post("/v1/embeddings", model="v", input="the fox")
    assert vector.status_code == 200, vector.text
    assert vector.json()["model"] == "v"
    assert states(house)["vectors"] == "Ready"
    answer = house.post("/predict", model="labels", inputs="the fox")
    assert answer.json()["task"] == "TextClassification"
    assert states(house) == {
        "tiny": "Ready",
        "vectors": "Unloaded",
        "labels": "Ready",
        "broken": "Unloaded",
    }
    assert metric(house, "modelserver_model_evictions_total", "vectors") == 1
    count = 'modelserver_requests_total{code="200",model="labels"'
    assert any(line.startswith(count) for line in house.client.get("/metrics").text.splitlines())
    assert "modelserver_models_loaded 2.0" in house.client.get("/metrics").text


def test_models_are_loaded_and_unloaded_by_name(house):
    loaded = house.post("/models/load", model="labels").json()
    again = house.post("/models/load", model="labels").json()
    assert again["was_loaded"]
    assert again["seconds"] < 0.01
    about = loaded["model"]["loaded"]
    assert about["architecture"] == "BertForSequenceClassification"
    assert about["memory_bytes"] > 100_000
    gone = house.post("/models/unload", model="labels").json()
    assert gone["was_loaded"]
    assert gone["model"]["state"] == "Unloaded"
    assert not house.post("/models/unload", model="labels").json()["was_loaded"]
    refused = house.post("/models/unload", model="tiny")
    assert refused.status_code == 409
    assert "The model tiny is pinned" in refused.json()["error"]["message"]


def test_a_model_that_cannot_be_loaded_says_why_to_everybody(house):
    refused = house.post("/generate", model="broken", inputs="a")
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "model_unavailable"
    assert "/no/such/folder does not exist" in refused.json()["error"]["message"]
    assert int(refused.headers["retry-after"]) >= 1
    [report] = [
        each for each in house.client.get("/models").json()["models"] if each["name"] == "broken"
    ]
    assert report["state"] == "Failed"
    assert report["failure"]["code"] == "ArtifactNotFound"
    assert 0 < report["failure"]["retry_after_seconds"] <= 30


def test_without_a_name_the_servers_own_model_answers(house):
    answer = house.post("/generate", inputs="the", parameters={"max_new_tokens": 2})
    assert answer.status_code == 200
    named = house.post("/generate", model="tiny", inputs="the", parameters={"max_new_tokens": 2})
    assert named.json() == answer.json()
    unknown = house.post("/generate", model="nobody", inputs="the")
    assert unknown.status_code == 404
    assert "this server has tiny, also-tiny, vectors, v, labels" in unknown.text


def test_openais_list_has_every_name(house):
    listed = house.client.get("/v1/models").json()["data"]
    assert [card["id"] for card in listed] == [
        *("tiny", "also-tiny", "vectors", "v", "labels", "broken"),
    ]
    house.post("/models/load", model="vectors")
    assert house.client.get("/v1/models/v").json()["task"] == "Embeddings"


def test_status_tells_everything_in_one_answer(house):
    body = house.client.get("/status").json()
    assert body["status"] == "ready"
    assert body["uptime_seconds"] >= 0
    assert body["models"]["max_loaded"] == 2
    engines = {engine["model"]: engine for engine in body["engines"]}
    assert engines["tiny"]["running"] == engines["tiny"]["waiting"] == 0
    assert set(engines["tiny"]["circuits"].values()) == {"Closed"}
    assert {device["name"] for device in body["hardware"]} >= {"cpu", "cuda", "qnn"}
    assert house.client.get("/ready").status_code == 200


def test_status_answers_also_before_the_model_does(causal_directory):
    with running_server(settings_for(causal_directory), is_loaded=False) as server:
        body = server.client.get("/status").json()
        assert (body["status"], body["reason"]) == ("not ready", "The model is not loaded yet")
        assert body["models"]["models"][0]["state"] == "Loading"
        assert body["engines"] == []
        assert server.client.get("/ready").status_code == 503
