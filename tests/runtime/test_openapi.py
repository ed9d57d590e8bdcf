"""The OpenAPI document says what the server does: bodies, statuses, headers, keys."""

from collections.abc import Iterator
from typing import Any

import pytest

from modelserver_runtime.rest.openapi import HEADERS
from modelserver_runtime.rest.protection import public_paths
from modelserver_runtime.settings import Settings
from support.api_fuzz import fuzz
from support.fake_model import CountingBackend, fake_model
from support.runtime_server import RunningServer, running_server

pytestmark = pytest.mark.slow

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(Settings(served_name="tiny"), fake_model(CountingBackend())) as server:
        yield server


@pytest.fixture(scope="module")
def document(server: RunningServer) -> dict[str, Any]:
    return server.client.get("/openapi.json").json()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, found in document["paths"].items():
        for method, operation in found.items():
            yield method, path, operation


ASKED = {
    *("/generate", "/v1/completions", "/v1/models/{name}", "/v1/embeddings", "/models/load"),
    *("/v2/models/{name}", "/v2/models/{name}/infer", "/v2/repository/index", "/readyz"),
}


@pytest.mark.slow
def test_no_request_that_the_document_suggests_is_answered_otherwise_than_it_says(server):
    """Right and wrong ones; `make fuzz` asks thousands, on every route and of three models."""
    seen = fuzz(server, examples=12, paths=ASKED)
    assert sum(seen.values()) >= 100
    assert {200, 400, 404} <= set(seen)
    assert not [status for status in seen if status >= 500]


def test_every_route_says_who_may_ask_it(document):
    public = public_paths(Settings())
    for _, path, operation in operations(document):
        assert bool(operation["security"]) is (path not in public), path
        refusals = {"401", "403"} & operation["responses"].keys()
        assert refusals == (set() if path in public else {"401", "403"}), path
    assert document["components"]["securitySchemes"].keys() == {"bearer", "x-api-key"}


def test_every_answer_has_the_headers_that_all_have(document):
    for _, path, operation in operations(document):
        for status, response in operation["responses"].items():
            assert {"x-request-id", "x-model-revision"} <= response["headers"].keys(), (
                path,
                status,
            )
            assert response["headers"].keys() <= HEADERS.keys()


def test_every_error_has_the_shape_of_its_protocol(document):
    for _, path, operation in operations(document):
        for status, response in operation["responses"].items():
            if status.startswith("2") or path.endswith(("/ready", "/live", "z", "/health")):
                continue
            shape = "ErrorV2" if path.startswith("/v2") else "ErrorBody"
            schema = response["content"]["application/json"]["schema"]
            assert schema["$ref"].endswith(f"/{shape}"), (path, status)


@pytest.mark.parametrize(
    ("path", "method", "expected"),
    [
        (CHAT, "post", "200 400 401 403 404 413 415 429 500 503 504"),
        ("/v1/models", "get", "200 401 403 429 500 503"),
        ("/v2/models/{name}/infer", "post", "200 400 401 403 404 413 415 429 500 503 504"),
        ("/livez", "get", "200 503"),
    ],
)
def test_a_route_names_the_statuses_that_it_can_have(document, path, method, expected):
    assert sorted(document["paths"][path][method]["responses"]) == expected.split()


@pytest.mark.parametrize(
    ("path", "kinds"),
    [
        (CHAT, {"application/json", "text/event-stream"}),
        ("/v2/models/{name}/infer", {"application/json", "application/octet-stream"}),
        ("/v2/models/{name}/generate_stream", {"text/event-stream"}),
    ],
)
def test_the_kinds_of_an_answer_are_named(document, path, kinds):
    assert set(document["paths"][path]["post"]["responses"]["200"]["content"]) == kinds


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for value in part:
            yield from references(value)


def test_every_reference_leads_somewhere(document):
    for reference in set(references(document)):
        found: Any = document
        for name in reference.removeprefix("#/").split("/"):
            assert name in found, reference
            found = found[name]
