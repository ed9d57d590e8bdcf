"""The output of a response: items that grow, and the events that tell of it."""

from collections.abc import Iterator, Sequence
from typing import Any

from modelserver_runtime.identifiers import random_hex
from modelserver_runtime.rest.tools.pieces import (
    CallArguments,
    CallBegun,
    Piece,
    Reasoning,
    Text,
)

type Event = dict[str, Any]


class OutputBuilder:
    """Pieces go in, events come out; `items` is the output so far."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self._is_open = False
        self._logprobs: list[Any] = []

    def add(self, piece: Piece, logprobs: Sequence[Any] = ()) -> Iterator[Event]:
        match piece:
            case Text(text):
                yield from self._continue("message")
                self._part["text"] += text
                self._part["logprobs"].extend(logprobs)
                yield self._text_event("output_text.delta", delta=text, logprobs=list(logprobs))
            case Reasoning(text):
                yield from self._continue("reasoning")
                self._part["text"] += text
                yield self._text_event("reasoning_text.delta", delta=text)
            case CallBegun(call_id=call_id, name=name):
                yield from self._close("completed")
                call = {"call_id": call_id, "name": name, "arguments": ""}
                yield from self._begin("function_call", "fc", **call)
            case CallArguments(text=text):
                self._item["arguments"] += text
                yield self._event("function_call_arguments.delta", delta=text)

    def finish(self, status: str) -> Iterator[Event]:
        """The last item is as complete as the whole; without any piece there is an empty text."""
        if not self.items:
            yield from self._continue("message")
        yield from self._close(status)

    @property
    def _item(self) -> dict[str, Any]:
        return self.items[-1]

    @property
    def _part(self) -> dict[str, Any]:
        part: dict[str, Any] = self._item["content"][0]
        return part

    def _continue(self, kind: str) -> Iterator[Event]:
        """Goes on with the last item if it is of this kind, else begins one."""
        if self._is_open and self._item["type"] == kind:
            return
        yield from self._close("completed")
        if kind == "message":
            yield from self._begin(kind, "msg", role="assistant", content=[])
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        else:
            yield from self._begin(kind, "rs", summary=[], content=[])
            part = {"type": "reasoning_text", "text": ""}
        self._item["content"].append(part)
        yield self._text_event("content_part.added", part=_copy(part))

    def _begin(self, kind: str, prefix: str, **fields: Any) -> Iterator[Event]:
        identity = {"id": f"{prefix}_{random_hex(12)}", "type": kind}
        self.items.append({**identity, "status": "in_progress", **fields})
        self._is_open = True
        yield self._item_event("output_item.added")

    def _close(self, status: str) -> Iterator[Event]:
        if not self._is_open:
            return
        self._is_open = False
        match self._item["type"]:
            case "message":
                part = _copy(self._part)
                whole = {"text": part["text"], "logprobs": part["logprobs"]}
                yield self._text_event("output_text.done", **whole)
                yield self._text_event("content_part.done", part=part)
            case "reasoning":
                part = _copy(self._part)
                yield self._text_event("reasoning_text.done", text=part["text"])
                yield self._text_event("content_part.done", part=part)
            case _:
                whole = {"arguments": self._item["arguments"], "name": self._item["name"]}
                yield self._event("function_call_arguments.done", **whole)
        self._item["status"] = status
        yield self._item_event("output_item.done")

    def _event(self, kind: str, **fields: Any) -> Event:
        place = {"item_id": self._item["id"], "output_index": len(self.items) - 1}
        return {"type": f"response.{kind}", **place, **fields}

    def _text_event(self, kind: str, **fields: Any) -> Event:
        return self._event(kind, content_index=0, **fields)

    def _item_event(self, kind: str) -> Event:
        index, item = len(self.items) - 1, _copy(self._item)
        return {"type": f"response.{kind}", "output_index": index, "item": item}


def _copy(value: dict[str, Any]) -> dict[str, Any]:
    """As it is now: what was sent must not grow with what is still being built."""
    return {
        key: [dict(part) if isinstance(part, dict) else part for part in entry]
        if isinstance(entry, list)
        else entry
        for key, entry in value.items()
    }
