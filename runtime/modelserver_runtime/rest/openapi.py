"""Completes FastAPI's document: which statuses a route can have, streams, headers, keys, probes."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from modelserver_runtime.rest.context import JSON
from modelserver_runtime.rest.inference_v2.schemas import InferRequest
from modelserver_runtime.rest.protection import METRICS
from modelserver_runtime.rest.schemas.errors import ErrorV2

type Operation = dict[str, Any]

_ERROR, _ERROR_V2 = "ErrorBody", "ErrorV2"
_EVENTS = "text/event-stream"
_BYTES = "application/octet-stream"
# Routes whose answer a model computes.
_COMPUTING = frozenset(
    {
        *("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"),
        *("/v1/rerank", "/v1/score", "/generate", "/predict", "/batch-predict"),
    }
)
_COMPUTING_ENDS = ("/infer", "/generate", "/generate_stream")
_STREAMING = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses", "/generate"})
_ONLY_STREAM_END = "/generate_stream"
_LOADING_END = "/load"
_TEXT = {"schema": {"type": "string"}}
# Server-sent events, each of them: JSON, or [DONE] at the end.
_EVENT = {
    "schema": {
        "type": "object",
        "properties": {"data": {"type": "string"}, "event": {"type": "string"}},
        "required": ["data"],
    }
}
_OBJECT = {"schema": {"type": "object"}}
_STATUS_OBJECT = {
    "schema": {
        "type": "object",
        "properties": {"status": {"type": "string"}, "reason": {"type": "string"}},
        "required": ["status"],
    }
}
# Probes answer the same body with 503 as long as it is not so.
_PROBES: Mapping[str, Any] = {
    "/livez": _STATUS_OBJECT,
    "/readyz": _STATUS_OBJECT,
    "/ready": _STATUS_OBJECT,
    "/startupz": _OBJECT,
    "/health": _STATUS_OBJECT,
}


def _header(text: str, *, kind: str = "string", is_always: bool = False) -> dict[str, Any]:
    return {"description": text, "required": is_always, "schema": {"type": kind}}


HEADERS: Mapping[str, Mapping[str, Any]] = {
    "x-request-id": _header("the request's id; the client's own if it sent one", is_always=True),
    "x-model-revision": _header("revision of the ModelServer", is_always=True),
    "server-timing": _header("time of each part of the work, in milliseconds"),
    "x-cache": _header("hit, miss, coalesced or bypass"),
    "retry-after": _header("seconds after which trying again makes sense", kind="integer"),
    "retry-after-ms": _header("the same in milliseconds", kind="integer"),
    "x-should-retry": _header("whether the same request may be sent again", kind="boolean"),
    "www-authenticate": _header("how to say who you are"),
    **{
        f"x-ratelimit-{what}-{unit}": _header(f"{what} of the caller's {unit} in a minute")
        for what in ("limit", "remaining", "reset")
        for unit in ("requests", "tokens")
    },
    "inference-header-content-length": _header("length of the JSON before the tensors' bytes"),
}
_ON_ALL = ("x-request-id", "x-model-revision")
_LIMITS = tuple(name for name in HEADERS if name.startswith("x-ratelimit"))
_RETRY = ("retry-after", "retry-after-ms", "x-should-retry")
_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "an API key of this server"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}


def complete(document: dict[str, Any], public: Iterable[str]) -> None:
    """`public` are the paths that need no key."""
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas[_ERROR_V2] = ErrorV2.model_json_schema()
    inference = InferRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= inference.pop("$defs")
    schemas["InferRequest"] = inference
    components["securitySchemes"] = _SECURITY_SCHEMES
    components["headers"] = dict(HEADERS)
    unprotected = frozenset(public)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete(operation, method, path, is_public=path in unprotected)


def _complete(operation: Operation, method: str, path: str, *, is_public: bool) -> None:
    responses = operation["responses"]
    if path in _PROBES:
        _describe_probe(operation, _PROBES[path])
    else:
        _keep_only(responses, set(statuses_of(operation, method, path, is_public=is_public)))
    if path.startswith("/v2"):
        _use_error_v2(responses)
    _describe_content(responses, path)
    for status, response in responses.items():
        names = _headers_of(status, path, is_public=is_public)
        response["headers"] = {name: _reference("headers", name) for name in names}
    operation["security"] = [] if is_public else [{}, {"bearer": []}, {"x-api-key": []}]


def statuses_of(operation: Operation, method: str, path: str, *, is_public: bool) -> Iterator[str]:
    """The failures that a route can have, beside what it documents itself."""
    has_body = "requestBody" in operation
    yield "500"
    if not is_public:
        yield from ("401", "403", "429", "503")
    if has_body or operation.get("parameters"):
        yield from ("400", "413")
    if has_body:
        yield from ("404", "415")
    if "{" in path:
        yield "404"
    if _is_computing(method, path):
        yield from ("404", "429", "503", "504")
    elif method in {"post", "delete"}:
        yield "409"
    if path.endswith(_LOADING_END):
        yield "504"


def _is_computing(method: str, path: str) -> bool:
    return method == "post" and (path in _COMPUTING or path.endswith(_COMPUTING_ENDS))


def _keep_only(responses: dict[str, Any], wanted: set[str]) -> None:
    """A failure that a route documents itself has a text of its own, and stays."""
    for status in [status for status in responses if not status.startswith("2")]:
        if status not in wanted and _is_general(responses[status]):
            del responses[status]


def _is_general(response: Mapping[str, Any]) -> bool:
    schema = response.get("content", {}).get(JSON, {}).get("schema", {})
    return bool(schema == _reference("schemas", _ERROR))


def _reference(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}


def _describe_probe(operation: Operation, body: Mapping[str, Any]) -> None:
    operation["responses"].clear()
    for status, text in (("200", "It is so"), ("503", "It is not so, or not yet")):
        operation["responses"][status] = {"description": text, "content": {JSON: dict(body)}}


def _use_error_v2(responses: Mapping[str, Any]) -> None:
    for response in responses.values():
        if _is_general(response):
            response["content"] = {JSON: {"schema": _reference("schemas", _ERROR_V2)}}


def _describe_content(responses: Mapping[str, Any], path: str) -> None:
    content = responses["200"].setdefault("content", {})
    if path in _STREAMING:
        content[_EVENTS] = _EVENT
    elif path.endswith(_ONLY_STREAM_END):
        content.clear()
        content[_EVENTS] = _EVENT
    elif path.endswith("/infer"):
        content[_BYTES] = {"schema": {"type": "string", "format": "binary"}}
    elif path == METRICS:
        content.clear()
        content["text/plain"] = _TEXT
        content["application/openmetrics-text"] = _TEXT


def _headers_of(status: str, path: str, *, is_public: bool) -> Iterator[str]:
    yield from _ON_ALL
    if not is_public:
        yield from _LIMITS
    if status == "401":
        yield "www-authenticate"
    if status in {"429", "500", "503", "504"}:
        yield from _RETRY
    if status.startswith("2") and _is_computing("post", path):
        yield from ("server-timing", "x-cache")
    if status == "200" and path.endswith("/infer"):
        yield "inference-header-content-length"
