"""The runtime with the variables and mounts of a pod does what the ModelServer asks for."""

import json

import pytest

from modelserver_operator.resources.containers import make_server_container
from modelserver_operator.resources.revision import Pins, Revision, ServedSpec
from modelserver_runtime.settings import load_settings
from support import tiny_models
from support.access import SecretVolume
from support.planning import a_server
from support.runtime_server import running_server
from support.waiting import wait_until

pytestmark = pytest.mark.slow

WEB, BATCH, LATER = ("hf_" + letter * 43 for letter in "ABC")
SPEC = {
    "model": {"uri": "pvc://models/chat", "servedName": "chat"},
    "extraModels": [{"name": "embedder", "uri": "pvc://models/embedder", "aliases": ["small"]}],
    "access": {
        "apiKeys": {"secretRef": {"name": "keys"}},
        "rateLimit": {"requestsPerMinute": 1000, "tokensPerMinute": 100_000},
    },
    "runtime": {
        "batching": {"maxBatchSize": 4},
        "queue": {"maxSize": 7, "scope": "Server"},
        "responseCache": {"ttlSeconds": 60},
        "circuitBreaker": {"failureThreshold": 2},
    },
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The folders that a pod's mounts are."""
    folder = tmp_path_factory.mktemp("pod")
    tiny_models.causal_model(folder / "model")
    (folder / "models").mkdir()
    tiny_models.sentence_transformer(folder / "models/embedder")
    return folder


@pytest.fixture(scope="module")
def keys(root):
    (root / "etc/modelserver").mkdir(parents=True)
    volume = SecretVolume(root / "etc/modelserver/keys")
    volume.write({"web": WEB, "batch": BATCH})
    return volume


@pytest.fixture(scope="module")
def server(root, keys):
    container = make_server_container("chat", "models", revision())
    with pytest.MonkeyPatch.context() as patch:
        for one in container["env"]:
            if one["name"].startswith("MODELSERVER_"):
                patch.setenv(one["name"], inside(root, container, one["value"]))
        settings = load_settings()
    with running_server(settings) as running:
        yield running


def revision():
    return Revision(served=ServedSpec.of(a_server(SPEC).spec), pins=Pins(runtime_image="image"))


def inside(root, container, value):
    """A value in which the paths of the container's mounts are those of this machine."""
    for mount in container["volumeMounts"]:
        path = mount["mountPath"]
        if value == path:
            return f"{root}{path}"
        value = value.replace(json.dumps(path), json.dumps(f"{root}{path}"))
    return value


def ask(server, key=None, content="hello", **more):
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 2, "temperature": 0}
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    body |= {"model": "chat", **more}
    return server.client.post("/v1/chat/completions", json=body, headers=headers)


def test_only_who_has_a_key_is_answered(server):
    assert ask(server).status_code == 401
    assert ask(server, LATER).status_code == 401
    answer = ask(server, WEB)
    assert answer.status_code == 200
    assert answer.headers["x-ratelimit-limit-requests"] == "1000"
    assert answer.headers["x-ratelimit-limit-tokens"] == "100000"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz", "/metrics"])
def test_probes_the_operator_and_the_monitoring_need_no_key(server, path):
    assert server.client.get(path).status_code == 200


def test_equal_requests_of_a_key_are_computed_once(server):
    answers = [ask(server, WEB, content="twice") for _ in range(2)]
    assert [one.headers["x-cache"] for one in answers] == ["miss", "hit"]
    assert ask(server, BATCH, content="twice").headers["x-cache"] == "miss"


@pytest.mark.parametrize("name", ["embedder", "small"])
def test_an_extra_model_answers_under_its_names(server, name):
    headers = {"Authorization": f"Bearer {WEB}"}
    body = {"model": name, "input": "hello"}
    answer = server.client.post("/v1/embeddings", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"][0]["embedding"]


def test_what_is_set_for_the_engine_arrives_there(server):
    settings = server.context.settings
    assert (settings.max_batch_size, settings.max_waiting, settings.breaker_failures) == (4, 7, 2)


def test_a_change_of_the_secret_is_in_force_without_a_restart(server, keys):
    assert ask(server, LATER).status_code == 401
    keys.write({"web": LATER})
    wait_until(lambda: ask(server, LATER).status_code == 200, timeout=10, what="the new key")
    assert ask(server, WEB).status_code == 401
    assert ask(server, BATCH).status_code == 401
