"""What a file would change, as lines."""

import json
from collections.abc import Iterator
from typing import Any

from rich.text import Text

from modelserver_cli.display.words import columns
from modelserver_cli.reading.forecast import ChildChange, Forecast

_LONGEST_VALUE = 60
_MARKS = {"make": ("+", "green"), "change": ("~", "yellow"), "remove": ("-", "red")}


def plan_lines(one: Forecast) -> Iterator[Text]:
    yield Text(f"{one.namespace}/{one.name}  {_headline(one)}", style="bold")
    yield from _fields(one)
    if one.has_changes:
        yield Text(f"  pods: {one.pods}", style="yellow" if one.restarts else "")
    if one.strategy:
        yield Text(f"  strategy: {one.strategy}")
    for step in one.steps:
        yield Text(f"    {step}")
    for need in one.needs:
        yield Text(f"  needs: {need}")
    for problem in one.problems:
        yield Text(f"  problem: {problem}", style="red")
    yield from _children(one)
    for note in one.notes:
        yield Text(f"  note: {note}", style="dim")


def _headline(one: Forecast) -> str:
    if one.is_new:
        return "is new"
    return "changes" if one.has_changes else "nothing changes"


def _fields(one: Forecast) -> Iterator[Text]:
    for field in one.fields:
        yield Text(f"  {field.path}: {_value(field.before)} -> {_value(field.after)}")


def _value(value: Any) -> str:
    text = "(none)" if value is None else json.dumps(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _children(one: Forecast) -> Iterator[Text]:
    if not one.children:
        return
    yield Text("  objects:")
    rows = [(_MARKS[c.verb][0], c.kind, c.name, _why(c)) for c in one.children]
    for child, row in zip(one.children, columns(rows), strict=True):
        yield Text(f"    {row}", style=_MARKS[child.verb][1])


def _why(child: ChildChange) -> str:
    """That what is made is missing goes without saying."""
    return "" if child.verb == "make" else child.reason
