"""Tiny models and servers that several tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support import tiny_models
from support.redis_server import redis_server
from support.runtime_server import RunningServer, running_server, settings_for

__all__ = ["redis_server"]


@pytest.fixture(autouse=True)
def may_ask_a_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ran in this process before has switched the hub off for the whole process."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture(scope="session")
def causal_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.causal_model(tmp_path_factory.mktemp("models") / "causal")


@pytest.fixture(scope="session")
def embedder_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.sentence_transformer(tmp_path_factory.mktemp("models") / "embedder")


@pytest.fixture(scope="session")
def classifier_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.classifier(tmp_path_factory.mktemp("models") / "classifier")


@pytest.fixture(scope="session")
def chat_server(causal_directory: Path) -> Iterator[RunningServer]:
    with running_server(settings_for(causal_directory)) as server:
        yield server


@pytest.fixture(scope="session")
def embedding_server(embedder_directory: Path) -> Iterator[RunningServer]:
    with running_server(settings_for(embedder_directory)) as server:
        yield server


@pytest.fixture(scope="session")
def task_server(classifier_directory: Path) -> Iterator[RunningServer]:
    settings = settings_for(classifier_directory, max_body_bytes=20_000, max_list_items=10)
    with running_server(settings) as server:
        yield server


@pytest.fixture(scope="session")
def image_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    path = tiny_models.image_classifier(tmp_path_factory.mktemp("models") / "image")
    with running_server(settings_for(path)) as server:
        yield server


@pytest.fixture(scope="session")
def roomy_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Its model holds long prompts and answers; its template knows no tools."""
    path = tiny_models.causal_model(tmp_path_factory.mktemp("models") / "roomy", most_tokens=4096)
    with running_server(settings_for(path)) as server:
        yield server


@pytest.fixture(scope="session")
def hermes_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Its template tells of tools, and that calls are marked."""
    path = tiny_models.causal_model(
        tmp_path_factory.mktemp("models") / "hermes",
        most_tokens=4096,
        template=tiny_models.HERMES_TEMPLATE,
        special_tokens=["<tool_call>", "</tool_call>"],
    )
    with running_server(settings_for(path)) as server:
        yield server


@pytest.fixture(scope="session")
def rerank_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    path = tiny_models.cross_encoder(tmp_path_factory.mktemp("models") / "reranker")
    with running_server(settings_for(path)) as server:
        yield server
