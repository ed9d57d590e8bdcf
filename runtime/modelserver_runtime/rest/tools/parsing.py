"""Reads calls out of an answer, while it is generated."""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from modelserver_runtime.backends.base import ResponseParser
from modelserver_runtime.rest.tools.dialect import Dialect
from modelserver_runtime.rest.tools.pieces import CallArguments, CallBegun, Piece, Reasoning, Text
from modelserver_runtime.rest.tools.scanning import (
    CallScanner,
    NotACall,
    arguments_text,
    new_call_id,
)

_SPACE = " \t\r\n"
# Between two calls, and around the calls of a list.
_BETWEEN = f"{_SPACE},;[]"
# Before the first of a list without a mark.
_BEFORE = f"{_SPACE}["
_REASONING = ("reasoning_content", "thinking")


class CallReader:
    """Reads the calls of a dialect; what is none stays text.

    Without marks a call must be of a known function, as any JSON could look like one.
    """

    def __init__(
        self, dialect: Dialect, names: AbstractSet[str], *, most: int | None = None
    ) -> None:
        self._dialect = dialect
        self._names = names
        self._most = most
        self._held = ""
        self._scanner: CallScanner | None = None
        self._calls = 0
        self._may_call = not dialect.opening  # whether JSON would be a call where we are
        self._skipped = ""  # a mark, brackets and white space, which are text if no call follows
        self._blank = ""  # white space before the first word
        self._has_text = False

    def feed(self, text: str) -> Sequence[Piece]:
        return [piece for piece in self._read(text) if self._is_wanted(piece)]

    def finish(self) -> Sequence[Piece]:
        """A call that was cut off before its name was known is text."""
        rest = self._held
        if self._scanner is not None:
            rest = "" if self._scanner.has_begun else self._skipped + self._scanner.raw
        elif self._may_call and self._is_text(self._skipped):
            rest = self._skipped + rest
        return list(self._said(rest))

    def _is_wanted(self, piece: Piece) -> bool:
        if self._most is None or isinstance(piece, Text | Reasoning):
            return True
        return piece.index < self._most

    def _read(self, text: str) -> Iterator[Piece]:
        """Each turn of the loop knows more than the last, or waits for more text."""
        self._held += text
        while self._held:
            before = (self._held, self._scanner, self._may_call)
            if self._scanner is not None:
                yield from self._read_call(self._scanner)
            elif self._may_call:
                yield from self._read_beginning()
            else:
                yield from self._read_text()
            if before == (self._held, self._scanner, self._may_call):
                break

    def _read_call(self, scanner: CallScanner) -> Iterator[Piece]:
        text, self._held = self._held, ""
        try:
            for piece in scanner.feed(text):
                self._require_known(piece)
                yield piece
        except NotACall:
            self._scanner, self._may_call = None, False
            yield from self._said(self._skipped + scanner.raw)
            self._skipped, self._held = "", scanner.rest
            return
        if scanner.is_done:
            self._scanner, self._held = None, scanner.rest
            self._calls += 1
            self._may_call, self._skipped, self._blank = True, "", ""

    def _require_known(self, piece: Piece) -> None:
        if isinstance(piece, CallBegun) and not self._dialect.opening:
            self._require_name(piece.name)

    def _require_name(self, name: str) -> None:
        if name not in self._names:
            raise NotACall

    def _read_beginning(self) -> Iterator[Piece]:
        """At a place where a call may begin: after a mark, after a call, or at the start."""
        rest = self._held.lstrip(self._skippable)
        self._skipped += self._held[: len(self._held) - len(rest)]
        self._held = rest
        if rest.startswith("{"):
            self._scanner = CallScanner(self._calls)
        elif rest:
            self._may_call = False
            skipped, self._skipped = self._skipped, ""
            if self._is_text(skipped):
                yield from self._said(skipped)

    @property
    def _skippable(self) -> str:
        if self._calls or self._dialect.is_list:
            return _BETWEEN
        return _SPACE if self._dialect.opening else _BEFORE

    def _is_text(self, skipped: str) -> bool:
        """After a call it is what separates calls, unless another one was announced."""
        opening = self._dialect.opening
        return not self._calls or bool(opening and skipped.startswith(opening))

    def _read_text(self) -> Iterator[Piece]:
        marks = [mark for mark in (self._dialect.opening, self._dialect.closing) if mark]
        found = [(position, mark) for mark in marks if (position := self._held.find(mark)) >= 0]
        if found:
            position, mark = min(found)
            yield from self._said(self._held[:position])
            self._held = self._held[position + len(mark) :]
            self._may_call = True
            self._skipped = mark if mark == self._dialect.opening else ""
            return
        keep = max((_overlap(self._held, mark) for mark in marks), default=0)
        cut = len(self._held) - keep
        said, self._held = self._held[:cut], self._held[cut:]
        yield from self._said(said)

    def _said(self, text: str) -> Iterator[Piece]:
        """White space before the first word belongs to the call that follows, if one does."""
        if not self._has_text:
            text, self._blank = self._blank + text, ""
            if not text.strip():
                self._blank = text
                return
        self._has_text = True
        if text:
            yield Text(text)


def _overlap(text: str, mark: str) -> int:
    """Length of the longest end of `text` with which `mark` begins."""
    longest = min(len(text), len(mark) - 1)
    return next(
        (length for length in range(longest, 0, -1) if text.endswith(mark[:length])),
        0,
    )


class DescribedReader:
    """Reads an answer as the model's own files describe it, by the parser of transformers."""

    def __init__(self, parser: ResponseParser) -> None:
        self._parser = parser
        self._calls = 0
        self._unparsed = ""
        self._is_broken = False

    def feed(self, text: str) -> Sequence[Piece]:
        if self._is_broken:
            return [Text(text)] if text else []
        self._unparsed += text
        try:
            return list(self._pieces(self._parser.feed(text)))
        except ValueError:
            return self._give_up()

    def finish(self) -> Sequence[Piece]:
        if self._is_broken:
            return []
        try:
            return list(self._pieces(self._parser.finalize()[1]))
        except ValueError:
            return self._give_up()

    def _give_up(self) -> Sequence[Piece]:
        """What does not have the described form is shown as it is."""
        self._is_broken = True
        return [Text(self._unparsed)] if self._unparsed else []

    def _pieces(self, events: Sequence[Any]) -> Iterator[Piece]:
        for event in events:
            kind, field = event["type"], event["field"]
            if kind == "region_chunk" and not event.get("dirty") and event["text"]:
                self._unparsed = ""
                if field in _REASONING:
                    yield Reasoning(event["text"])
                elif field == "content":
                    yield Text(event["text"])
            elif kind == "region_close" and field == "tool_calls":
                self._unparsed = ""
                yield from self._call(event["value"])

    def _call(self, value: Any) -> Iterator[Piece]:
        for entry in value if isinstance(value, list) else [value]:
            function = entry.get("function", entry) if isinstance(entry, dict) else None
            if not isinstance(function, dict) or not isinstance(function.get("name"), str):
                raise ValueError("not a call")  # noqa: TRY004  as the parser says it
            yield from self._announce(function["name"], function.get("arguments", {}))

    def _announce(self, name: str, arguments: Any) -> Iterator[Piece]:
        index = self._calls
        self._calls += 1
        yield CallBegun(index=index, call_id=new_call_id(), name=name)
        yield CallArguments(index=index, text=arguments_text(arguments))
