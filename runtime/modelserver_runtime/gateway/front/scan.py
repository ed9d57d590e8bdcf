r"""Reads the model's name out of a JSON body, and what a conversation begins with; no more.

A body may have megabytes of pictures, and is not waited for: as soon as the name has come the
request goes on. What is read is read strictly: the key `"model"` of the outermost object, also when
it is written with escapes, and the last one of several, as JSON parsers do it, of those in what has
come of the body. A body that has come as a whole is parsed, which is the same and faster.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from modelserver_runtime.errors import InvalidRequest

# As RFC 8259 has it, and as far as a scanner needs: what a string holds its parser looks at.
_SPACE = re.compile(rb"[ \t\n\r]*")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SCALAR = re.compile(rb"[-+.0-9A-Za-z]+")
# A whole string, or one character: a bracket, or the quote of a string that does not end.
_STRUCTURE = re.compile(_STRING.pattern + rb'|["\[\]{}]', re.DOTALL)
_LAST_SPACE = ord(" ")
_MODEL = "model"
# What a conversation begins with, by route: of /v1/chat/completions, /v1/completions, /v1/responses
# and /generate.
_BEGINNINGS = frozenset({"messages", "prompt", "input", "inputs", "text"})
# A text grows at its end, of which each turn has more; of messages it is the end that differs, as
# many conversations have the same instructions. Beyond these it only takes longer to hash.
_MOST_TEXT_BYTES = 4096
_MOST_MESSAGES_BYTES = 64 << 10


class Unfinished(Exception):
    """The body goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """`beginning` is that of a conversation, the same for all its turns; None where there is none.

    `is_complete`: the object ended in what was scanned.
    """

    is_complete: bool
    model: str | None = None
    beginning: bytes | None = None
    is_stream: bool = False


@dataclass(slots=True)
class _Found:
    """Where each member's value stands; `end` is None of the one that goes on."""

    values: dict[str, tuple[int, int | None]] = field(default_factory=dict)


def read(body: bytes) -> Scan:
    """Of a whole body. A parser is many times faster than what can read a part of one."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return scan(body)
    if not isinstance(content, dict):
        return scan(body)
    return Scan(
        is_complete=True,
        model=_checked(content[_MODEL]) if _MODEL in content else None,
        beginning=_beginning_of(content),
        is_stream=content.get("stream") is True,
    )


def scan(body: bytes) -> Scan:
    """Raises InvalidRequest where it is no JSON object, as far as that was looked at."""
    found, is_complete = _found_in(body)
    stream = _whole(found, "stream")
    return Scan(
        is_complete=is_complete,
        model=_model(body, found),
        beginning=_beginning(body, found),
        is_stream=stream is not None and body[slice(*stream)] == b"true",
    )


def renamed(body: bytes, name: str) -> bytes:
    """The body with another model's name."""
    span = _whole(_found_in(body)[0], _MODEL)
    return body if span is None else body[: span[0]] + orjson.dumps(name) + body[span[1] :]


def _found_in(body: bytes) -> tuple[_Found, bool]:
    """And whether the object ended."""
    found = _Found()
    try:
        _read_members(body, found)
    except Unfinished:
        return found, False
    return found, True


def _whole(found: _Found, name: str) -> tuple[int, int] | None:
    start, end = found.values.get(name, (0, None))
    return None if end is None else (start, end)


def _model(body: bytes, found: _Found) -> str | None:
    span = _whole(found, _MODEL)
    if span is None:
        return None
    is_text = body[span[0]] == ord('"')
    return _checked(_parsed(body, *span) if is_text else None)


def _checked(model: object) -> str:
    if not isinstance(model, str):
        raise InvalidRequest("model must be a string, the name of a model", param=_MODEL)
    return model


def _parsed(body: bytes, start: int, end: int) -> str:
    try:
        return str(orjson.loads(body[start:end]))
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is no JSON: {error}") from error


# -- what a conversation begins with -------------------------------------------------------------


def _beginning_of(content: Mapping[str, Any]) -> bytes | None:
    name = next((name for name in content if name in _BEGINNINGS), None)
    if name is None:
        return None
    value = content[name]
    if not isinstance(value, list):
        return orjson.dumps(value)[:_MOST_TEXT_BYTES]
    first = next((index for index, one in enumerate(value) if _is_of_user(one)), len(value))
    return _of_messages(value[: first + 1])


def _of_messages(messages: list[Any]) -> bytes:
    """Written anew, so that it is the same however the client wrote it, and wherever it was cut."""
    return orjson.dumps(messages)[-_MOST_MESSAGES_BYTES:]


def _is_of_user(message: object) -> bool:
    return isinstance(message, dict) and message.get("role") == "user"


def _beginning(body: bytes, found: _Found) -> bytes | None:
    """The same of a part, if the first words of the user have come."""
    name = next((name for name in found.values if name in _BEGINNINGS), None)
    if name is None:
        return None
    start, end = found.values[name]
    try:
        if body[start : start + 1] == b"[":
            return _of_messages(_first_messages(body, start))
        text = None if end is None else orjson.loads(body[start:end])
    except (Unfinished, InvalidRequest, orjson.JSONDecodeError):
        return None
    return None if end is None else orjson.dumps(text)[:_MOST_TEXT_BYTES]


def _first_messages(body: bytes, start: int) -> list[Any]:
    """Of the array there, up to the first one of the user."""
    messages: list[Any] = []
    index = _skip_space(body, start + 1)
    while body[index : index + 1] != b"]":
        end = _value_end(body, index)
        messages.append(orjson.loads(body[index:end]))
        if _is_of_user(messages[-1]):
            break
        index = _skip_space(body, end)
        if body[index : index + 1] == b",":
            index = _skip_space(body, index + 1)
    return messages


# -- the grammar ---------------------------------------------------------------------------------


def _read_members(body: bytes, found: _Found) -> None:
    index = _token(body, 0, b"{", "a JSON object")
    index = _skip_space(body, index)
    if body[index : index + 1] == b"}":
        return
    while True:
        key_end = _string_end(body, index)
        key = _parsed(body, index, key_end)
        start = _skip_space(body, _token(body, key_end, b":", "a colon"))
        found.values[key] = (start, None)
        end = _value_end(body, start)
        found.values[key] = (start, end)
        index = _skip_space(body, end)
        mark = body[index : index + 1]
        if mark == b"}":
            return
        index = _skip_space(body, _token(body, index, b",", "a comma or the end of the object"))


def _skip_space(body: bytes, index: int) -> int:
    """Where the next token begins; raises Unfinished where there is none yet."""
    end = _past_space(body, index)
    if end >= len(body):
        raise Unfinished
    return end


def _past_space(body: bytes, index: int) -> int:
    if index < len(body) and body[index] > _LAST_SPACE:
        return index
    match = _SPACE.match(body, index)
    return match.end() if match else index


def _token(body: bytes, index: int, wanted: bytes, what: str) -> int:
    index = _skip_space(body, index)
    if body[index : index + 1] != wanted:
        raise InvalidRequest(f"The body must be a JSON object; {what} was expected at byte {index}")
    return index + 1


def _string_end(body: bytes, index: int) -> int:
    match = _STRING.match(body, index)
    if match is not None:
        return match.end()
    if body[index : index + 1] == b'"':
        raise Unfinished
    raise InvalidRequest(f"The body is no JSON: a name in quotes was expected at byte {index}")


def _value_end(body: bytes, index: int) -> int:
    first = body[index : index + 1]
    if first == b'"':
        return _string_end(body, index)
    if first in {b"{", b"["}:
        return _nested_end(body, index)
    match = _SCALAR.match(body, index)
    if match is None:
        raise InvalidRequest(f"The body is no JSON: a value was expected at byte {index}")
    if match.end() == len(body):  # more digits may come
        raise Unfinished
    return match.end()


def _nested_end(body: bytes, index: int) -> int:
    """Of brackets only that they pair is looked at; the model's pod reads what is between."""
    open_brackets = bytearray()
    for match in _STRUCTURE.finditer(body, index):
        end = match.end()
        if end - match.start() > 1:  # a string
            continue
        kind = match[0]
        if kind == b'"':
            raise Unfinished
        if kind in b"{[":
            open_brackets += kind
        elif bytes(open_brackets[-1:]) + kind not in {b"{}", b"[]"}:
            raise InvalidRequest(f"The body is no JSON: a bracket at byte {end - 1} fits no other")
        else:
            open_brackets.pop()
        if not open_brackets:
            return end
    raise Unfinished
