"""What the operator writes into pods and what the runtime reads: the same names and values."""

from pathlib import Path

import pytest

from modelserver_operator.apis.access import RateLimit
from modelserver_operator.apis.model import DataType, Task
from modelserver_operator.apis.requests import (
    Batching,
    CircuitBreaker,
    Queue,
    QueueScope,
    ResponseCache,
)
from modelserver_operator.resources.containers import (
    make_fetch_containers,
    make_resolve_container,
    make_server_container,
)
from modelserver_operator.resources.revision import Pins, Revision, ServedSpec
from modelserver_runtime import settings as runtime
from modelserver_runtime.errors import StartupFailure
from modelserver_runtime.settings.engine import QueueScope as RuntimeQueueScope
from modelserver_runtime.tasks.discovery import all_tasks
from support.planning import COMMIT, a_server

ROOT = Path(__file__).parents[2]
EXTRA_COMMIT = "f" * 40
SPEC = {
    "model": {
        "uri": "hf://org/model",
        "revision": COMMIT,
        "credentials": {"secretRef": {"name": "hub"}},
        "aliases": ["other"],
        "task": "Embeddings",
    },
    "runtime": {
        "dtype": "Float16",
        "maxModelLength": 5,
        "drainSeconds": 0,
        "batching": {
            "maxBatchSize": 3,
            "maxBatchTokens": 300,
            "maxWaitMilliseconds": 33,
            "speculativeTokens": 2,
        },
        "queue": {"maxSize": 4, "timeoutSeconds": 44, "scope": "Server"},
        "responseCache": {"ttlSeconds": 55, "maxEntries": 555},
        "circuitBreaker": {"failureThreshold": 6, "openSeconds": 66},
        "redis": {"url": "redis://redis.cache:6379/1"},
    },
    "access": {
        "apiKeys": {"secretRef": {"name": "keys"}},
        "rateLimit": {"requestsPerMinute": 7, "tokensPerMinute": 77},
    },
    "extraModels": [
        {
            "name": "embedder",
            "uri": "hf://org/embedder",
            "revision": EXTRA_COMMIT,
            "credentials": {"secretRef": {"name": "hub"}},
            "aliases": ["small"],
            "task": "Embeddings",
            "dtype": "BFloat16",
        },
        {"name": "local", "uri": "pvc://models/local"},
        {"name": "inside", "uri": "file:///opt/inside"},
    ],
    "network": {"policy": "Open"},
}
PINS = Pins(runtime_image="image", hub_endpoint="http://hub.example", commit=COMMIT)


def containers(spec=SPEC):
    server = a_server(spec)
    revision = Revision(served=ServedSpec.of(server.spec), pins=PINS)
    return [
        make_server_container(server.name, "models", revision),
        *make_fetch_containers(server.name, revision),
        make_resolve_container(
            server.name, server.spec.model, image="image", hub_endpoint="http://hub.example"
        ),
    ]


def variables(container):
    return {one["name"]: one.get("value", "from a Secret") for one in container["env"]}


@pytest.mark.parametrize("container", containers(), ids=lambda one: one["name"])
def test_every_variable_is_a_setting_of_the_runtime(container):
    ours = {name.removeprefix(runtime.PREFIX).lower() for name in variables(container)}
    known = {*runtime.Settings.model_fields, "home"}
    assert ours <= known


@pytest.mark.parametrize("container", containers(), ids=lambda one: one["name"])
def test_every_variable_is_in_the_table_of_the_contract(container):
    table = (ROOT / "docs/architecture.md").read_text()
    assert [name for name in variables(container) if f"`{name}`" not in table] == []


@pytest.fixture
def read(monkeypatch):
    """The runtime's settings in a container of this name."""

    def settings_in(name):
        container = next(one for one in containers() if one["name"] == name)
        for variable, value in variables(container).items():
            monkeypatch.setenv(variable, value)
        return runtime.load_settings()

    return settings_in


@pytest.mark.parametrize("name", ["server", "fetch", "resolve"])
def test_the_runtime_accepts_what_is_written(read, name):
    settings = read(name)
    assert (settings.name, settings.model_uri) == ("chat", "hf://org/model")
    assert settings.model_revision == COMMIT


def test_the_values_that_serve_arrive(read):
    settings = read("server")
    assert settings.task == runtime.Task.EMBEDDINGS
    assert settings.dtype is runtime.Dtype.FLOAT16
    assert settings.aliases == ("other",)
    assert settings.served_name == "chat"
    assert (settings.max_model_length, settings.drain_seconds) == (5, 0)


def test_what_a_request_meets_on_its_way_arrives(read):
    settings = read("server")
    assert (settings.max_batch_size, settings.max_running_sequences) == (3, 3)
    assert (settings.max_batch_tokens, settings.batch_max_wait_milliseconds) == (300, 33)
    assert settings.speculative_tokens == 2
    assert (settings.max_waiting, settings.queue_timeout_seconds) == (4, 44)
    assert settings.queue_scope == "Server"
    assert (settings.cache_ttl_seconds, settings.cache_max_entries) == (55, 555)
    assert (settings.breaker_failures, settings.breaker_open_seconds) == (6, 66)
    assert settings.redis_url == "redis://redis.cache:6379/1"
    assert settings.redis_prefix == "modelserver:models:chat:"


def test_access_arrives(read):
    settings = read("server")
    assert settings.needs_keys
    assert settings.access_keys_directory == Path("/etc/modelserver/keys")
    assert (settings.key_requests_per_minute, settings.key_tokens_per_minute) == (7, 77)
    assert (settings.address_requests_per_minute, settings.address_tokens_per_minute) == (0, 0)


def test_without_keys_the_limits_are_those_of_addresses(monkeypatch):
    limited = {**SPEC, "access": {"rateLimit": {"requestsPerMinute": 7}}}
    for name, value in variables(containers(limited)[0]).items():
        monkeypatch.setenv(name, value)
    settings = runtime.load_settings()
    assert not settings.needs_keys
    assert (settings.address_requests_per_minute, settings.key_requests_per_minute) == (7, 0)


def test_a_cache_that_is_not_wanted_keeps_nothing(monkeypatch):
    without = {**SPEC, "runtime": {"responseCache": {"enabled": False}}}
    for name, value in variables(containers(without)[0]).items():
        monkeypatch.setenv(name, value)
    assert runtime.load_settings().cache_max_entries == 0


def test_extra_models_arrive(read):
    embedder, local, inside = read("server").models
    assert embedder.names == ("embedder", "small")
    assert (embedder.uri, embedder.revision) == ("hf://org/embedder", EXTRA_COMMIT)
    assert embedder.directory == Path("/models/embedder")
    assert (embedder.task, embedder.dtype) == (runtime.Task.EMBEDDINGS, runtime.Dtype.BFLOAT16)
    assert local.directory == Path("/models/local")
    assert inside.directory == Path("/opt/inside")


def test_as_many_models_are_loaded_as_the_description_says():
    assert runtime.Settings.model_fields["max_loaded_models"].default == 3
    assert "more than three would be loaded" in (ROOT / "docs/api.md").read_text()


def test_an_extra_model_is_fetched_to_where_the_server_looks_for_it(read):
    fetched = read("fetch-model-embedder")
    (served,) = [one for one in read("server").models if one.name == "embedder"]
    assert fetched.model_directory == served.directory
    assert (fetched.model_uri, fetched.model_revision) == (served.uri, served.revision)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Batching().max_batch_size, "max_batch_size"),
        (Batching().max_batch_size, "max_running_sequences"),
        (Batching().max_batch_tokens, "max_batch_tokens"),
        (Batching().max_wait_milliseconds, "batch_max_wait_milliseconds"),
        (Batching().speculative_tokens, "speculative_tokens"),
        (Queue().max_size, "max_waiting"),
        (Queue().timeout_seconds, "queue_timeout_seconds"),
        (Queue().scope, "queue_scope"),
        (ResponseCache().max_entries, "cache_max_entries"),
        (ResponseCache().ttl_seconds, "cache_ttl_seconds"),
        (CircuitBreaker().failure_threshold, "breaker_failures"),
        (CircuitBreaker().open_seconds, "breaker_open_seconds"),
        (RateLimit().requests_per_minute, "key_requests_per_minute"),
        (RateLimit().tokens_per_minute, "key_tokens_per_minute"),
    ],
)
def test_naming_a_part_without_values_changes_nothing(ours, theirs):
    assert ours == runtime.Settings.model_fields[theirs].default


def test_the_server_never_gets_the_token():
    server, *others = map(variables, containers())
    assert "HF_TOKEN" not in server
    assert len(others) == 3
    assert all("HF_TOKEN" in one for one in others)


def test_tasks_and_types_have_the_same_names_on_both_sides():
    assert {str(task) for task in Task} == {"Auto", *(task.name for task in all_tasks())}
    assert {str(one) for one in QueueScope} == {str(one) for one in RuntimeQueueScope}
    assert {str(one) for one in DataType} == {str(one) for one in runtime.Dtype}


def test_exit_codes_of_the_runtime_are_codes_of_the_diagnosis():
    from modelserver_operator.status.diagnosis.codes import EXIT_CODES  # noqa: PLC0415

    ours = {status: str(code) for status, code in EXIT_CODES.items() if status < 100}
    assert ours == {one.exit_code: one.__name__ for one in StartupFailure.__subclasses__()}
