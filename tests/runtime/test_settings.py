"""Settings: four sources in the order of their weight, and a sentence for each wrong value."""

import argparse
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from modelserver_runtime.errors import InvalidConfiguration
from modelserver_runtime.settings import Dtype, Settings, Task, load_settings
from modelserver_runtime.settings.concerns import concerns_of
from modelserver_runtime.settings.flags import add_flags, settings_given
from modelserver_runtime.settings.names import variables_of
from modelserver_runtime.settings.strangers import unknown_variables


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields:
        for name in variables_of(field):
            monkeypatch.delenv(name, raising=False)


def test_the_environment_of_a_pod_is_understood(monkeypatch):
    environment = {
        "MODELSERVER_MODEL_URI": "hf://org/chat",
        "MODELSERVER_MODEL_DIRECTORY": "/model",
        "MODELSERVER_NAME": "chat",
        "MODELSERVER_REVISION": "5d9f7c1a",
        "MODELSERVER_SERVED_NAME": "chat-model",
        "MODELSERVER_ALIASES": '["gpt-4o", "org/chat"]',
        "MODELSERVER_TASK": "TextGeneration",
        "MODELSERVER_DTYPE": "BFloat16",
        "MODELSERVER_MAX_MODEL_LENGTH": "2048",
        "MODELSERVER_ALLOW_PICKLE": "false",
        "MODELSERVER_TRUST_REMOTE_CODE": "true",
        "MODELSERVER_REQUEST_TIMEOUT_SECONDS": "120",
        "MODELSERVER_DRAIN_SECONDS": "60",
        "MODELSERVER_HOST": "0.0.0.0",
        "MODELSERVER_PORT": "8080",
        "HF_TOKEN": "hf_secret",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.api_names == ("chat-model", "gpt-4o", "org/chat")
    assert settings.metrics_name == "chat"
    assert (settings.task, settings.dtype) == (Task.TEXT_GENERATION, Dtype.BFLOAT16)
    assert settings.trust_remote_code
    assert not settings.allow_pickle
    assert settings.model_directory == Path("/model")
    assert settings.hf_token == "hf_secret"
    assert "hf_secret" not in repr(settings)


def test_empty_variables_mean_the_default(monkeypatch):
    monkeypatch.setenv("MODELSERVER_PORT", "")
    monkeypatch.setenv("MODELSERVER_TASK", "")
    assert load_settings().port == 8080
    assert load_settings().task == Task.AUTO


def test_a_flag_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("MODELSERVER_PORT", "1")
    assert load_settings(port="9000").port == 9000


def test_on_a_laptop_the_model_is_named_after_its_directory():
    settings = load_settings(model_directory="/models/tiny")
    assert settings.api_name == settings.metrics_name == "tiny"


SOURCES = ("flag", "MODELSERVER_MAX_WAITING", "HF_SERVER_MAX_WAITING", "file")


@pytest.mark.parametrize(
    "given", [given for count in range(5) for given in combinations(SOURCES, count)]
)
def test_a_flag_beats_variables_the_newer_name_the_older_and_all_of_them_the_file(
    given, monkeypatch, tmp_path
):
    value = {source: 11 + index for index, source in enumerate(SOURCES)}
    flags: dict[str, Any] = {}
    for source in given:
        match source:
            case "flag":
                flags["max_waiting"] = str(value["flag"])
            case "file":
                flags["config"] = a_file(tmp_path, f"max_waiting: {value['file']}")
            case variable:
                monkeypatch.setenv(variable, str(value[variable]))
    strongest = next((source for source in SOURCES if source in given), None)
    assert load_settings(**flags).max_waiting == value.get(strongest, 100)


def a_file(directory: Path, text: str) -> str:
    path = directory / "server.yaml"
    path.write_text(text)
    return str(path)


def test_a_file_sets_lists_and_numbers_and_empty_keys_mean_the_default(monkeypatch, tmp_path):
    text = "aliases: [a, b]\nport: 9000\nallow_pickle: yes\ntask:\n"
    monkeypatch.setenv("MODELSERVER_CONFIG", a_file(tmp_path, text))
    settings = load_settings()
    assert (settings.aliases, settings.port, settings.allow_pickle) == (("a", "b"), 9000, True)
    assert settings.task == Task.AUTO


def test_an_empty_file_is_a_file_without_settings(tmp_path):
    assert load_settings(config=a_file(tmp_path, "# nothing yet\n")).port == 8080


def test_the_standard_variable_of_traces_is_read_after_ours(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://standard:4318")
    assert load_settings().otlp_endpoint == "http://standard:4318"
    monkeypatch.setenv("MODELSERVER_OTLP_ENDPOINT", "http://ours:4318")
    assert load_settings().otlp_endpoint == "http://ours:4318"


IN_VARIABLES = {
    ("PORT", "http"): "MODELSERVER_PORT is 'http': Input should be a valid integer",
    ("PORT", "70000"): "MODELSERVER_PORT is '70000': Input should be less than or equal to 65535",
    ("PORT", "-1"): "MODELSERVER_PORT is '-1': Input should be greater than or equal to 0",
    ("LAME_DUCK_SECONDS", "-1"): "MODELSERVER_LAME_DUCK_SECONDS is '-1': Input should be",
    ("DTYPE", "int4"): "MODELSERVER_DTYPE is 'int4': Input should be 'Auto', 'Float32'",
    ("ALIASES", "a,b"): "MODELSERVER_ALIASES is 'a,b': a list is written as JSON, for example",
    ("ALIASES", '{"a": 1}'): "MODELSERVER_ALIASES is {'a': 1}: a list is written as JSON",
    ("ALIASES", "[1]"): "MODELSERVER_ALIASES.0 is 1: Input should be a valid string",
    ("MAX_MODEL_LENGTH", "-5"): "MODELSERVER_MAX_MODEL_LENGTH is '-5': Input should be greater",
    ("TRUST_REMOTE_CODE", "maybe"): "MODELSERVER_TRUST_REMOTE_CODE is 'maybe': Input should be a",
    ("REQUEST_TIMEOUT_SECONDS", "0"): "MODELSERVER_REQUEST_TIMEOUT_SECONDS is '0': Input should",
    ("DRAIN_SECONDS", "soon"): "MODELSERVER_DRAIN_SECONDS is 'soon': Input should be a valid num",
    ("MAX_BATCH_SIZE", "0"): "MODELSERVER_MAX_BATCH_SIZE is '0': Input should be greater than or",
    ("MAX_BODY_BYTES", "1k"): "MODELSERVER_MAX_BODY_BYTES is '1k': Input should be a valid int",
    ("LOG_LEVEL", "loud"): "MODELSERVER_LOG_LEVEL is 'loud': Input should be 'debug', 'info'",
    ("LOG_FORMAT", "xml"): "MODELSERVER_LOG_FORMAT is 'xml': Input should be 'Auto', 'Text'",
    ("METRICS_ALIASES", '["Tgi"]'): "MODELSERVER_METRICS_ALIASES.0 is 'Tgi': Input should be 'Hf",
    ("CORS_ORIGINS", '["chat"]'): "MODELSERVER_CORS_ORIGINS.0 is 'chat': String should match",
    ("HSTS_SECONDS", "-1"): "MODELSERVER_HSTS_SECONDS is '-1': Input should be greater than",
    ("CONFIG", "/no/such.yaml"): "The settings file /no/such.yaml cannot be read: No such file",
}


@pytest.mark.parametrize(("name", "value"), IN_VARIABLES)
def test_a_wrong_variable_is_named_with_its_value(monkeypatch, name, value):
    monkeypatch.setenv(f"MODELSERVER_{name}", value)
    assert IN_VARIABLES[name, value] in refused()


def refused(**flags: Any) -> str:
    with pytest.raises(InvalidConfiguration) as wrong:
        load_settings(**flags)
    return wrong.value.message


def test_an_older_variable_is_named_as_it_was_written(monkeypatch):
    monkeypatch.setenv("HF_SERVER_PORT", "http")
    assert refused().startswith("HF_SERVER_PORT is 'http': Input should be a valid integer")


IN_FILES = {
    "port: http": "port in {path} is 'http': Input should be a valid integer",
    "aliases: one": "aliases in {path} is 'one': a list is written as YAML, for example",
    "aliases: [1]": "aliases.0 in {path} is 1: Input should be a valid string",
    "prot: 80": "prot in {path} is no setting, did you mean port?",
    "xyzzy: red": "xyzzy in {path} is no setting, it has no effect",
    "config: other.yaml": "config in {path} is no setting",
    "- port": "The settings file {path} holds a list; it must hold keys with values",
    "just words": "The settings file {path} holds a str; it must hold keys with values",
    "port: [": "The settings file {path} is not YAML",
    "max_batch_tokens: 3.5": "max_batch_tokens in {path} is 3.5: Input should be a valid integer",
}


@pytest.mark.parametrize("text", IN_FILES)
def test_what_is_wrong_in_a_file_is_named_with_the_file(tmp_path, text):
    path = a_file(tmp_path, text)
    assert IN_FILES[text].format(path=path) in refused(config=path)


def test_every_wrong_value_is_named_and_flags_by_their_flag(monkeypatch, tmp_path):
    monkeypatch.setenv("MODELSERVER_PORT", "http")
    monkeypatch.setenv("HF_SERVER_MAX_WAITING", "many")
    path = a_file(tmp_path, "hsts_seconds: always")
    message = refused(drain_seconds="soon", config=path)
    for place in ("MODELSERVER_PORT", "HF_SERVER_MAX_WAITING", "--drain-seconds"):
        assert f"{place} is '" in message
    assert f"hsts_seconds in {path} is 'always'" in message


def test_settings_that_contradict_each_other_are_named_together():
    message = refused(cors_origins=["*"], cors_credentials="true")
    assert "cors_credentials is true and cors_origins has *" in message


def test_a_secret_that_is_wrong_is_not_shown(tmp_path):
    message = refused(config=a_file(tmp_path, "hf_token: [hf_secret]"))
    assert "hf_token" in message
    assert "hf_secret" not in message


UNKNOWN = {
    "MODELSERVER_MAX_WAITNG": "MODELSERVER_MAX_WAITNG is no setting; did you mean "
    "MODELSERVER_MAX_WAITING?",
    "HF_SERVER_PROT": "HF_SERVER_PROT is no setting; did you mean HF_SERVER_PORT?",
    "MODELSERVER_XYZZY": "MODELSERVER_XYZZY is no setting; it has no effect",
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_variable_that_sets_nothing_is_warned_about_with_the_nearest_name(name):
    assert unknown_variables({name: "1"}, Settings.model_fields) == [UNKNOWN[name]]


def test_variables_of_settings_of_services_and_of_others_are_no_strangers():
    environment = {
        "MODELSERVER_PORT": "80",
        "HF_SERVER_PORT": "80",
        "HF_TOKEN": "x",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "x",
        "PATH": "/bin",
        "MODELSERVER_OPERATOR_SERVICE_HOST": "10.0.0.1",
        "MODELSERVER_OPERATOR_SERVICE_PORT_HTTP": "80",
        "MODELSERVER_OPERATOR_PORT": "tcp://10.0.0.1:80",
        "MODELSERVER_OPERATOR_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    assert unknown_variables(environment, Settings.model_fields) == []


def flags_of(*arguments: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return settings_given(vars(parser.parse_args(arguments)))


def test_lists_are_comma_separated_in_a_flag_or_json():
    assert flags_of("--aliases", "a, b,")["aliases"] == ["a", "b"]
    assert flags_of("--aliases", '["a,b"]')["aliases"] == ["a,b"]
    assert flags_of("--metrics-aliases", "Vllm")["metrics_aliases"] == ["Vllm"]


def test_flags_that_are_not_given_leave_their_say_to_the_other_sources():
    assert flags_of("--port", "1", "--allow-pickle") == {"port": "1", "allow_pickle": "true"}


def test_a_secret_has_no_flag():
    parser = argparse.ArgumentParser()
    add_flags(parser)
    assert "--hf-token" not in parser.format_help()


def test_flags_stand_in_groups_by_concern():
    parser = argparse.ArgumentParser()
    add_flags(parser)
    titles = [concern.title for concern in concerns_of(Settings)]
    places = [parser.format_help().index(f"{title}:\n") for title in titles]
    assert places == sorted(places)
    fields = [name for concern in concerns_of(Settings) for name in concern.fields]
    assert sorted(fields) == sorted(Settings.model_fields)
