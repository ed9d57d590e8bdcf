"""Reads one call, JSON with a name and arguments, that arrives in pieces."""

import json
import re
from collections.abc import Iterator
from enum import Enum, auto
from typing import Any

from modelserver_runtime.identifiers import random_hex
from modelserver_runtime.rest.tools.pieces import CallArguments, CallBegun, Piece

_HEADER = re.compile(
    r'\s*\{\s*"name"\s*:\s*"([^"\\]+)"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)'
)


def new_call_id() -> str:
    return f"call_{random_hex(12)}"


class NotACall(Exception):
    """The JSON that was read is no call."""


class BalancedEnd:
    """Finds where JSON that begins with a bracket ends; `depth` brackets are open already."""

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth
        self._in_string = False
        self._is_escaped = False

    def find(self, text: str) -> int | None:
        """The position after the last bracket, or None if the text does not hold it."""
        for position, character in enumerate(text):
            if self._in_string:
                self._read_string(character)
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    return position + 1
        return None

    def _read_string(self, character: str) -> None:
        if self._is_escaped:
            self._is_escaped = False
        elif character == "\\":
            self._is_escaped = True
        elif character == '"':
            self._in_string = False


class _Part(Enum):
    HEAD = auto()
    ARGUMENTS = auto()
    TAIL = auto()
    DONE = auto()


class CallScanner:
    """`raw` is what was read; it is only kept until it is known to be a call."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._part = _Part.HEAD
        self._end = BalancedEnd()
        self.raw = ""
        self.rest = ""  # what came after the call

    @property
    def is_done(self) -> bool:
        return self._part is _Part.DONE

    @property
    def has_begun(self) -> bool:
        return self._part is not _Part.HEAD

    def feed(self, text: str) -> Iterator[Piece]:
        """Raises NotACall when the JSON ends and is none."""
        match self._part:
            case _Part.HEAD:
                yield from self._read_head(text)
            case _Part.ARGUMENTS:
                yield from self._read_arguments(text)
            case _Part.TAIL:
                self._read_tail(text)
            case _Part.DONE:
                self.rest += text

    def _read_head(self, text: str) -> Iterator[Piece]:
        known = len(self.raw)
        self.raw += text
        if header := _HEADER.match(self.raw):
            self._part, self._end = _Part.ARGUMENTS, BalancedEnd()
            yield self._begun(header[1])
            yield from self._read_arguments(self.raw[header.end() :])
            return
        end = self._end.find(text)
        if end is not None:
            self.raw, self.rest = self.raw[: known + end], self.raw[known + end :]
            yield from self._whole(self.raw)
            self._part = _Part.DONE

    def _read_arguments(self, text: str) -> Iterator[Piece]:
        end = self._end.find(text)
        if piece := text[:end]:
            yield CallArguments(index=self._index, text=piece)
        if end is not None:
            self._part, self._end = _Part.TAIL, BalancedEnd(depth=1)
            self._read_tail(text[end:])

    def _read_tail(self, text: str) -> None:
        end = self._end.find(text)
        if end is not None:
            self._part, self.rest = _Part.DONE, text[end:]

    def _whole(self, text: str) -> Iterator[Piece]:
        """A call whose parts are in another order, or wrapped."""
        name, arguments = _name_and_arguments(text)
        yield self._begun(name)
        yield CallArguments(index=self._index, text=arguments)

    def _begun(self, name: str) -> CallBegun:
        return CallBegun(index=self._index, call_id=new_call_id(), name=name)


def _name_and_arguments(text: str) -> tuple[str, str]:
    try:
        value: Any = json.loads(text)
    except ValueError as error:
        raise NotACall from error
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise NotACall
    arguments = value.get("arguments", value.get("parameters", {}))
    return value["name"], arguments_text(arguments)


def arguments_text(arguments: Any) -> str:
    """Some models write the JSON of the arguments as a string."""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
