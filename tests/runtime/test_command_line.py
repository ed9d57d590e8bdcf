"""Exit codes and last messages: what the operator reads of a pod that has ended."""

import json
import os
import shutil
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from modelserver_runtime import __main__ as command_line
from modelserver_runtime.app import loader
from modelserver_runtime.errors import OutOfMemory
from modelserver_runtime.settings import Settings
from support import tiny_models


@pytest.fixture
def termination_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "termination-log"
    monkeypatch.setenv("MODELSERVER_TERMINATION_LOG", str(path))
    return path


@pytest.fixture(autouse=True)
def no_frozen_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Right for a process that serves one model, not for one that goes on to other tests."""
    monkeypatch.setattr(loader.gc, "freeze", lambda: None)


def serve(directory: Path, *flags: str) -> int:
    return command_line.run(["serve", "--model", str(directory), "--port", "0", *flags])


def missing(directory: Path, _: Path) -> Path:
    return directory / "missing"


def empty(directory: Path, _: Path) -> Path:
    (directory / "empty").mkdir()
    return directory / "empty"


def pickled(directory: Path, model: Path) -> Path:
    copy = shutil.copytree(model, directory / "pickled")
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    return copy


def truncated(directory: Path, model: Path) -> Path:
    copy = shutil.copytree(model, directory / "truncated")
    weights = copy / "model.safetensors"
    os.truncate(weights, weights.stat().st_size - 100)
    return copy


def unknown_architecture(directory: Path, model: Path) -> Path:
    copy = shutil.copytree(model, directory / "unknown")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(
        json.dumps({**config, "architectures": ["LlavaForConditionalGeneration"]})
    )
    return copy


def unknown_model_type(directory: Path, model: Path) -> Path:
    copy = shutil.copytree(model, directory / "new")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "model_type": "from-the-future"}))
    return copy


def with_code_of_its_own(directory: Path, model: Path) -> Path:
    copy = unknown_model_type(directory, model)
    config = json.loads((copy / "config.json").read_text())
    names = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    (copy / "config.json").write_text(json.dumps({**config, "auto_map": names}))
    (copy / "own.py").write_text("raise SystemExit('this code must not run')\n")
    return copy


def without_a_weight(directory: Path, model: Path) -> Path:
    copy = shutil.copytree(model, directory / "partial")
    weights = load_file(copy / "model.safetensors")
    weights.pop("model.norm.weight")
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


def without_a_tokenizer(directory: Path, model: Path) -> Path:
    copy = shutil.copytree(model, directory / "mute")
    for path in copy.glob("tokenizer*"):
        path.unlink()
    return copy


@pytest.mark.parametrize(
    ("spoil", "ending"),
    [
        (missing, (44, "ArtifactNotFound", "does not exist")),
        (empty, (44, "ArtifactNotFound", "is empty")),
        (pickled, (43, "ArtifactRefused", "pickle")),
        (truncated, (45, "ArtifactCorrupt", "truncated")),
        (unknown_architecture, (46, "UnsupportedModel", "LlavaForConditionalGeneration")),
        (unknown_model_type, (46, "UnsupportedModel", "from-the-future")),
        (with_code_of_its_own, (43, "ArtifactRefused", "code that comes with it")),
        (without_a_weight, (46, "UnsupportedModel", "model.norm.weight")),
        (without_a_tokenizer, (46, "UnsupportedModel", "tokenizer")),
    ],
)
def test_a_model_that_cannot_be_served_ends_with_its_code(
    tmp_path, causal_directory, termination_log, spoil, ending
):
    exit_code, code, says = ending
    assert serve(spoil(tmp_path, causal_directory)) == exit_code
    message = json.loads(termination_log.read_text())
    assert message["code"] == code
    assert says in message["message"]
    assert message["hint"]


@pytest.mark.parametrize(
    ("flags", "exit_code", "says"),
    [
        (["--task", "ImageClassification"], 46, "cannot be served for ImageClassification"),
        (["--max-model-length", "100000"], 2, "the model was made for 256 tokens"),
        (["--port", "http"], 2, "--port is 'http'"),
        (["--task", "Chat"], 2, "The task is Chat, and there is none of this name"),
        (["--task", "no task"], 2, "--task is 'no task'"),
        (["--device", "gpu"], 2, "--device is 'gpu'"),
        (["--no-such-flag"], 2, "--no-such-flag is no flag"),
        (["--redis-url", "redis://a"], 2, "would see it, so set MODELSERVER_REDIS_URL"),
        (["--hold-release-per-pod", "3"], 2, "it is a flag of other commands"),
        (["--aliases", "a,b", "--dtype", "Int4"], 2, "invalid choice: 'Int4'"),
        (["--host", "203.0.113.1"], 2, "Cannot listen on 203.0.113.1:0"),
    ],
)
def test_wrong_flags_end_with_a_sentence(causal_directory, termination_log, flags, exit_code, says):
    assert serve(causal_directory, *flags) == exit_code
    assert says in json.loads(termination_log.read_text())["message"]


def test_a_wrong_environment_ends_with_2_and_a_sentence_per_field(monkeypatch, termination_log):
    monkeypatch.setenv("MODELSERVER_PORT", "http")
    monkeypatch.setenv("MODELSERVER_DTYPE", "Int4")
    assert command_line.run(["serve"]) == 2
    message = json.loads(termination_log.read_text())
    assert message["code"] == "InvalidConfiguration"
    assert "MODELSERVER_PORT is 'http'" in message["message"]
    assert "MODELSERVER_DTYPE is 'Int4'" in message["message"]


def test_a_port_in_use_is_a_wrong_configuration(causal_directory, termination_log):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert (
            command_line.run(["serve", "--model", str(causal_directory), "--port", str(port)]) == 2
        )
    assert f"Cannot listen on 127.0.0.1:{port}" in termination_log.read_text()


@pytest.mark.parametrize(
    ("error", "exit_code", "code"),
    [
        (OutOfMemory("does not fit", hint="buy more"), 48, "OutOfMemory"),
        (ZeroDivisionError("surprise"), 50, "RuntimeCrash"),
    ],
)
def test_failures_of_the_loader_keep_their_code(
    tmp_path, monkeypatch, termination_log, error, exit_code, code
):
    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(loader, "load", fail)
    assert serve(tmp_path) == exit_code
    assert json.loads(termination_log.read_text())["code"] == code


def test_a_loader_that_takes_too_long_ends_with_49(tmp_path, monkeypatch, termination_log):
    release = threading.Event()
    monkeypatch.setattr(loader, "load", lambda *_: release.wait(30))
    assert serve(tmp_path, "--load-timeout-seconds", "0.2") == 49
    release.set()
    assert "was not ready after 0 s" in json.loads(termination_log.read_text())["message"]


def test_memory_that_is_missing_while_warming_up_is_named(
    causal_directory, monkeypatch, termination_log
):
    from modelserver_runtime.backends.causal_lm import CausalLanguageModel  # noqa: PLC0415

    def exhaust(_: Any) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes")

    monkeypatch.setattr(CausalLanguageModel, "warm_up", exhaust)
    assert serve(causal_directory) == 48
    assert "allocate memory" in json.loads(termination_log.read_text())["message"]


def test_a_model_of_the_hub_is_fetched_into_the_cache_first(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    seen: list[Settings] = []
    monkeypatch.setattr(
        loader, "fetch_then_load", lambda settings, _: seen.append(settings) or 1 / 0
    )
    assert command_line.run(["serve", "--model", "hf://org/chat-model", "--port", "0"]) == 50
    [settings] = seen
    assert settings.model_uri == "hf://org/chat-model"
    assert settings.model_directory == tmp_path / "modelserver" / "org--chat-model"
    assert settings.api_name == "chat-model"


def test_a_model_that_is_fetched_first_is_then_loaded(tmp_path, monkeypatch, causal_directory):
    def fetch(source: Any, *, directory: Path, **_: Any) -> None:
        assert source.repository == "org/chat"
        shutil.copytree(causal_directory, directory)

    monkeypatch.setattr(loader, "fetch", fetch)
    settings = Settings(model_uri="hf://org/chat", model_directory=tmp_path / "chat")
    model = loader.fetch_then_load(settings, loader.Progress())
    assert model.description.architecture == "LlamaForCausalLM"


@pytest.mark.parametrize("command", ["serve", "fetch", "resolve"])
def test_help_lists_flags_with_their_variables(capsys, command):
    with pytest.raises(SystemExit) as ended:
        command_line.run([command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "MODELSERVER_MODEL_URI" in text
    assert "HF_TOKEN" not in text


def test_the_last_message_is_short_enough_for_the_kubelet(tmp_path, monkeypatch, termination_log):
    def fail(*_: Any) -> Any:
        raise OutOfMemory("x" * 10_000, hint="y")

    monkeypatch.setattr(loader, "load", fail)
    assert serve(tmp_path) == 48
    assert termination_log.stat().st_size <= 4096
    assert json.loads(termination_log.read_text())["code"] == "OutOfMemory"


def test_without_a_pod_no_file_is_written_where_nobody_asked(tmp_path, monkeypatch):
    monkeypatch.delenv("MODELSERVER_TERMINATION_LOG", raising=False)
    monkeypatch.setattr(command_line, "_TERMINATION_LOG", tmp_path / "termination-log")
    assert serve(tmp_path / "missing") == 44
    assert not (tmp_path / "termination-log").exists()


def test_pickle_weights_load_when_allowed(tmp_path):
    import torch  # noqa: PLC0415

    path = tiny_models.causal_model(tmp_path / "model")
    torch.save(load_file(path / "model.safetensors"), path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()
    settings = Settings(model_directory=path, allow_pickle=True)
    assert loader.load(settings, loader.Progress()).description.parameters > 0
