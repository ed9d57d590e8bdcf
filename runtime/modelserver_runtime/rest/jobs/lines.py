"""The lines of a batch: requests that come in, answers and failures that go out."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from modelserver_runtime.identifiers import random_hex
from modelserver_runtime.rest.jobs.calls import Answer

# More mistakes than this in one file help nobody.
MOST_ERRORS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    custom_id: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LineError:
    """`line` counts from 1."""

    line: int
    message: str
    code: str = "invalid_line"
    param: str | None = None


class InvalidLine(Exception):
    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


def read_lines(
    content: bytes, endpoint: str, most: int
) -> tuple[Sequence[Line], Sequence[LineError]]:
    """All lines, or what is wrong with them; empty lines do not count."""
    lines: list[Line] = []
    errors: list[LineError] = []
    known: set[str] = set()
    for number, text in _numbered(content):
        try:
            line = _line(text, endpoint, known)
            known.add(line.custom_id)
            lines.append(line)
        except InvalidLine as error:
            errors.append(LineError(line=number, message=error.message, param=error.param))
        if len(errors) >= MOST_ERRORS:
            break
        if len(lines) > most:
            errors.append(LineError(line=number, message=f"more than {most} requests; split it"))
            break
    if not lines and not errors:
        errors.append(LineError(line=1, code="empty_file", message="the file has no requests"))
    return lines, errors


def _numbered(content: bytes) -> Iterator[tuple[int, bytes]]:
    for number, text in enumerate(content.split(b"\n"), start=1):
        if text.strip():
            yield number, text


def _line(text: bytes, endpoint: str, known: set[str]) -> Line:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidLine(f"is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidLine("must be a JSON object")
    custom_id = value.get("custom_id")
    if not isinstance(custom_id, str) or not custom_id:
        raise InvalidLine("custom_id must be a text that is not empty", "custom_id")
    if custom_id in known:
        raise InvalidLine(f"custom_id {custom_id!r} is used twice", "custom_id")
    _require_request(value, endpoint)
    return Line(custom_id=custom_id, body=json.dumps(value["body"]).encode())


def _require_request(value: dict[str, Any], endpoint: str) -> None:
    if value.get("method") != "POST":
        raise InvalidLine(f"method must be POST, not {value.get('method')}", "method")
    if value.get("url") != endpoint:
        raise InvalidLine(f"url must be {endpoint}, as the batch says", "url")
    body = value.get("body")
    if not isinstance(body, dict):
        raise InvalidLine("body must be a JSON object", "body")
    if body.get("stream"):
        raise InvalidLine("body must not ask for a stream", "body.stream")


def answered(line: Line, answer: Answer) -> bytes:
    response = {
        "status_code": answer.status,
        "request_id": answer.request_id,
        "body": json.loads(answer.content or b"null"),
    }
    return _record(line, response, None)


def unanswered(line: Line, code: str, message: str) -> bytes:
    return _record(line, None, {"code": code, "message": message})


def _record(line: Line, response: Any, error: Any) -> bytes:
    record = {
        "id": f"batch_req_{random_hex(12)}",
        "custom_id": line.custom_id,
        "response": response,
        "error": error,
    }
    return orjson.dumps(record) + b"\n"
