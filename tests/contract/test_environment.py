"""What the operator writes into pods and what the runtime reads: the same names and values."""

import pytest

from modelserver_operator.apis.model import Task
from modelserver_operator.apis.runtime import DataType
from modelserver_operator.resources.containers import (
    make_fetch_container,
    make_resolve_container,
    make_server_container,
)
from modelserver_operator.resources.revision import Pins, Revision, ServedSpec
from modelserver_runtime import settings as runtime
from modelserver_runtime.errors import StartupFailure
from support.planning import COMMIT, a_server

SPEC = {
    "model": {
        "uri": "hf://org/model",
        "revision": COMMIT,
        "credentials": {"secretRef": {"name": "hub"}},
        "aliases": ["other"],
        "task": "Embeddings",
    },
    "runtime": {"dtype": "Float16", "maxModelLength": 5, "drainSeconds": 0},
}
PINS = Pins(runtime_image="image", hub_endpoint="http://hub.example", commit=COMMIT)


def containers():
    server = a_server(SPEC)
    revision = Revision(served=ServedSpec.of(server.spec), pins=PINS)
    return [
        make_server_container(server.name, revision),
        make_fetch_container(server.name, revision),
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
def test_the_runtime_accepts_what_is_written(container, monkeypatch):
    for name, value in variables(container).items():
        monkeypatch.setenv(name, value)
    settings = runtime.Settings()
    assert (settings.name, settings.model_uri) == ("chat", "hf://org/model")
    assert settings.model_revision == COMMIT


def test_the_values_that_serve_arrive(monkeypatch):
    for name, value in variables(containers()[0]).items():
        monkeypatch.setenv(name, value)
    settings = runtime.Settings()
    assert settings.task is runtime.Task.EMBEDDINGS
    assert settings.dtype is runtime.Dtype.FLOAT16
    assert settings.aliases == ("other",)
    assert settings.served_name == "chat"
    assert (settings.max_model_length, settings.drain_seconds) == (5, 0)


def test_the_server_never_gets_the_token():
    server, fetch, resolve = map(variables, containers())
    assert "HF_TOKEN" not in server
    assert "HF_TOKEN" in fetch
    assert "HF_TOKEN" in resolve


def test_tasks_and_types_have_the_same_names_on_both_sides():
    assert [str(task) for task in Task] == [str(task) for task in runtime.Task]
    assert {str(one) for one in DataType} == {str(one) for one in runtime.Dtype}


def test_exit_codes_of_the_runtime_are_codes_of_the_diagnosis():
    from modelserver_operator.status.diagnosis.codes import EXIT_CODES  # noqa: PLC0415

    ours = {status: str(code) for status, code in EXIT_CODES.items() if status < 100}
    assert ours == {one.exit_code: one.__name__ for one in StartupFailure.__subclasses__()}
