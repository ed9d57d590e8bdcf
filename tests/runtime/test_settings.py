"""Settings: the environment, flags over it, and a sentence for each wrong value."""

from pathlib import Path

import pytest

from modelserver_runtime.errors import InvalidConfiguration
from modelserver_runtime.settings import Dtype, Settings, Task, load_settings


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"MODELSERVER_{name.upper()}", raising=False)
    monkeypatch.delenv("HF_TOKEN", raising=False)


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
    assert load_settings().task is Task.AUTO


def test_a_flag_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("MODELSERVER_PORT", "1")
    assert load_settings(port="9000").port == 9000


def test_on_a_laptop_the_model_is_named_after_its_directory():
    settings = load_settings(model_directory="/models/tiny")
    assert settings.api_name == settings.metrics_name == "tiny"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("PORT", "http", "MODELSERVER_PORT is 'http'"),
        ("PORT", "70000", "MODELSERVER_PORT is '70000'"),
        ("PORT", "-1", "MODELSERVER_PORT is '-1'"),
        ("TASK", "Chat", "MODELSERVER_TASK is 'Chat': Input should be 'Auto'"),
        ("DTYPE", "int4", "MODELSERVER_DTYPE is 'int4': Input should be 'Auto'"),
        ("ALIASES", "a,b", "a list is written as JSON"),
        ("ALIASES", '{"a": 1}', "MODELSERVER_ALIASES"),
        ("MAX_MODEL_LENGTH", "-5", "MODELSERVER_MAX_MODEL_LENGTH is '-5'"),
        ("TRUST_REMOTE_CODE", "maybe", "MODELSERVER_TRUST_REMOTE_CODE is 'maybe'"),
        ("REQUEST_TIMEOUT_SECONDS", "0", "MODELSERVER_REQUEST_TIMEOUT_SECONDS is '0'"),
        ("DRAIN_SECONDS", "soon", "MODELSERVER_DRAIN_SECONDS is 'soon'"),
        ("MAX_BATCH_SIZE", "0", "MODELSERVER_MAX_BATCH_SIZE is '0'"),
        ("LOG_LEVEL", "loud", "MODELSERVER_LOG_LEVEL is 'loud'"),
    ],
)
def test_a_wrong_variable_is_named_with_its_value(monkeypatch, name, value, says):
    monkeypatch.setenv(f"MODELSERVER_{name}", value)
    with pytest.raises(InvalidConfiguration) as wrong:
        load_settings()
    assert says in wrong.value.message


def test_every_wrong_value_is_named_and_flags_by_their_flag(monkeypatch):
    monkeypatch.setenv("MODELSERVER_PORT", "http")
    with pytest.raises(InvalidConfiguration) as wrong:
        load_settings(drain_seconds="soon")
    assert "MODELSERVER_PORT is 'http'" in wrong.value.message
    assert "--drain-seconds is 'soon'" in wrong.value.message
