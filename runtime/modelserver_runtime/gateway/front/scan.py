r"""Reads the model's name out of a JSON body, and what a conversation begins with; no more.

A body may have megabytes of pictures; of them nothing is parsed. What is read is read strictly: the
key `"model"` of the outermost object, also when it is written with escapes, and the last one of
several, as JSON parsers do it, of those in what has come of the body.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import orjson

from modelserver_runtime.errors import InvalidRequest

# As RFC 8259 has it, and as far as a scanner needs: what a string holds its parser looks at.
_SPACE = re.compile(rb"[ \t\n\r]*")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SCALAR = re.compile(rb"[-+.0-9A-Za-z]+")
_BRACKET = re.compile(rb'["\[\]{}]')
_MODEL = "model"
# What a conversation begins with, by route: of /v1/chat/completions, /v1/completions, /v1/responses
# and /generate.
_BEGINNINGS = frozenset({"messages", "prompt", "input", "inputs", "text"})
# A longer beginning makes no better key, and takes longer to hash.
_MOST_KEY_BYTES = 4096
_USER = re.compile(rb'"role"\s*:\s*"user"')


class Unfinished(Exception):
    """The body goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """`span` is where the name's JSON string stands; `beginning` is None where there is none.

    `is_complete`: the object ended in what was scanned.
    """

    is_complete: bool
    model: str | None = None
    span: tuple[int, int] = (0, 0)
    beginning: bytes | None = None
    is_stream: bool = False


@dataclass(slots=True)
class _Found:
    values: dict[str, tuple[int, int]] = field(default_factory=dict)


def scan(body: bytes) -> Scan:
    """Raises InvalidRequest where it is no JSON object, as far as that was looked at."""
    found = _Found()
    is_complete = True
    try:
        _read_members(body, found)
    except Unfinished:
        is_complete = False
    return _scan_of(body, found, is_complete=is_complete)


def renamed(body: bytes, span: tuple[int, int], name: str) -> bytes:
    """The body with another model's name."""
    return body[: span[0]] + orjson.dumps(name) + body[span[1] :]


def _scan_of(body: bytes, found: _Found, *, is_complete: bool) -> Scan:
    span = found.values.get(_MODEL)
    model = _text(body, span) if span else None
    stream = found.values.get("stream")
    return Scan(
        is_complete=is_complete,
        model=model,
        span=span or (0, 0),
        beginning=_beginning(body, found),
        is_stream=stream is not None and body[slice(*stream)] == b"true",
    )


def _text(body: bytes, span: tuple[int, int]) -> str:
    if body[span[0]] != ord('"'):
        raise InvalidRequest("model must be a string, the name of a model", param=_MODEL)
    return _parsed(body, *span)


def _parsed(body: bytes, start: int, end: int) -> str:
    try:
        return str(orjson.loads(body[start:end]))
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is no JSON: {error}") from error


def _beginning(body: bytes, found: _Found) -> bytes | None:
    span = next((found.values[name] for name in found.values if name in _BEGINNINGS), None)
    if span is None:
        return None
    start, end = span
    if body[start] == ord("["):
        # Up to the first words of the user: each turn of a conversation begins with them.
        first = _USER.search(body, start, end)
        end = _end_of_turn(body, start, first.start()) if first else end
    return body[start : min(end, start + _MOST_KEY_BYTES)]


def _end_of_turn(body: bytes, start: int, role: int) -> int:
    """The end of the array's element in which `role` stands."""
    index = start + 1
    while index <= role:
        index = _value_end(body, _past_space(body, index))
        if index <= role:
            index = _past_space(body, index) + 1  # and past the comma
    return index


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
    for kind, end in _brackets(body, index):
        if kind in b"{[":
            open_brackets += kind
        elif bytes(open_brackets[-1:]) + kind not in {b"{}", b"[]"}:
            raise InvalidRequest(f"The body is no JSON: a bracket at byte {end - 1} fits no other")
        else:
            open_brackets.pop()
        if not open_brackets:
            return end
    raise Unfinished


def _brackets(body: bytes, index: int) -> Iterator[tuple[bytes, int]]:
    while match := _BRACKET.search(body, index):
        index = match.end()
        if match[0] == b'"':
            index = _string_end(body, match.start())
        else:
            yield match[0], index
