"""Calls are read out of an answer, however it is cut to pieces."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_runtime.rest.tools.dialect import GENERIC, HERMES, LLAMA, MISTRAL, dialect_of
from modelserver_runtime.rest.tools.parsing import CallReader
from modelserver_runtime.rest.tools.pieces import CallArguments, CallBegun, Text

type Read = tuple[str, list[tuple[str, str]]]


def read(reader: CallReader, pieces: list[str]) -> Read:
    """The text, and name and arguments of each call."""
    text, calls = "", []
    found = [piece for part in pieces for piece in reader.feed(part)]
    for piece in [*found, *reader.finish()]:
        match piece:
            case Text(more):
                text += more
            case CallBegun(index=index, name=name):
                assert index == len(calls)
                calls.append((name, ""))
            case CallArguments(index=index, text=more):
                calls[index] = (calls[index][0], calls[index][1] + more)
    return text, calls


def reader(dialect: Any, **options: Any) -> CallReader:
    return CallReader(dialect, {"f", "get_weather"}, **options)


CALL = '{"name": "f", "arguments": {"a": "} \\" {", "b": [1, {"c": 2}]}}'
ARGUMENTS = '{"a": "} \\" {", "b": [1, {"c": 2}]}'
ANSWERS: dict[str, tuple[Any, str, Read]] = {
    "text": (HERMES, "Hello {you}!", ("Hello {you}!", [])),
    "one call": (HERMES, f"<tool_call>\n{CALL}\n</tool_call>", ("", [("f", ARGUMENTS)])),
    "text before": (
        HERMES, f"I look. <tool_call>{CALL}</tool_call>", ("I look. ", [("f", ARGUMENTS)]),
    ),
    "two calls": (
        HERMES,
        f"<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{CALL}\n</tool_call>",
        ("", [("f", ARGUMENTS), ("f", ARGUMENTS)]),
    ),
    "text after": (
        HERMES, f"<tool_call>{CALL}</tool_call>\nDone", ("Done", [("f", ARGUMENTS)]),
    ),
    "a function nobody offered": (
        HERMES,
        '<tool_call>{"name": "g", "arguments": {}}</tool_call>',
        ("", [("g", "{}")]),
    ),
    "other order": (
        HERMES,
        '<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>',
        ("", [("f", '{"a": 1}')]),
    ),
    "arguments as a text": (
        HERMES,
        '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>',
        ("", [("f", '{"a": 1}')]),
    ),
    "more fields": (
        HERMES,
        '<tool_call>{"name": "f", "arguments": {"a": 1}, "id": "x}"}</tool_call>!',
        ("!", [("f", '{"a": 1}')]),
    ),
    "a mark without a call": (
        HERMES, "<tool_call>oops</tool_call>", ("<tool_call>oops", []),
    ),
    "JSON in the text": (HERMES, '{"name": "f", "arguments": {}}', (
        '{"name": "f", "arguments": {}}', [],
    )),
    "cut off in the arguments": (
        HERMES, '<tool_call>{"name": "f", "arguments": {"a": 1', ("", [("f", '{"a": 1')]),
    ),
    "cut off before the name": (HERMES, '<tool_call>{"na', ('<tool_call>{"na', [])),
    "cut off in the mark": (HERMES, "Hello <tool", ("Hello <tool", [])),
    "list of calls": (
        MISTRAL, f"[TOOL_CALLS] [{CALL}, {CALL}]", ("", [("f", ARGUMENTS), ("f", ARGUMENTS)]),
    ),
    "bare call": (
        LLAMA,
        '{"name": "get_weather", "parameters": {"city": "Köln"}}',
        ("", [("get_weather", '{"city": "Köln"}')]),
    ),
    "bare calls": (GENERIC, f"{CALL}\n{CALL}", ("", [("f", ARGUMENTS), ("f", ARGUMENTS)])),
    "bare list": (GENERIC, f"[{CALL},{CALL}]", ("", [("f", ARGUMENTS), ("f", ARGUMENTS)])),
    "bare JSON that is an answer": (GENERIC, '{"name": "Ada", "age": 36}', (
        '{"name": "Ada", "age": 36}', [],
    )),
    "bare call of nobody": (GENERIC, '{"name": "g", "arguments": {}}', (
        '{"name": "g", "arguments": {}}', [],
    )),
    "bare list of others": (GENERIC, '[{"a": 1}]', ('[{"a": 1}]', [])),
    "list of numbers": (GENERIC, "[1, 2]", ("[1, 2]", [])),
    "text with a call behind": (GENERIC, f"So: {CALL}", (f"So: {CALL}", [])),
    "wrapped": (
        GENERIC,
        '{"type": "function", "function": {"name": "f", "parameters": {"a": 1}}}',
        ("", [("f", '{"a": 1}')]),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("dialect", "answer", "expected"), ANSWERS.values(), ids=ANSWERS.keys())
def test_an_answer_is_read(dialect, answer, expected):
    assert read(reader(dialect), [answer]) == expected


@given(
    case=st.sampled_from(sorted(ANSWERS)),
    cuts=st.lists(st.integers(0, 200), max_size=12),
)
def test_how_an_answer_is_cut_makes_no_difference(case, cuts):
    dialect, answer, expected = ANSWERS[case]
    places = sorted({0, len(answer), *(cut for cut in cuts if cut < len(answer))})
    pieces = [answer[start:end] for start, end in itertools.pairwise(places)]
    assert read(reader(dialect), pieces) == expected


@pytest.mark.parametrize("case", ANSWERS)
def test_letter_by_letter(case):
    dialect, answer, expected = ANSWERS[case]
    assert read(reader(dialect), list(answer)) == expected


@given(text=st.text(alphabet='<tool_cal>/{}[]",: \nnamerguts1f\\', max_size=60))
def test_no_text_makes_a_reader_fail_or_lose_words(text):
    for dialect in (HERMES, MISTRAL, LLAMA, GENERIC):
        whole = read(reader(dialect), [text])
        assert read(reader(dialect), list(text)) == whole
        if not whole[1]:
            kept = whole[0].replace(dialect.closing, "") if dialect.closing else whole[0]
            for word in text.replace(dialect.closing or "\0", " ").split():
                assert word in kept or dialect.opening.startswith(word) or word in dialect.opening


def test_only_as_many_calls_as_are_wanted():
    text, calls = read(reader(GENERIC, most=1), [f"{CALL}\n{CALL}"])
    assert [name for name, _ in calls] == ["f"]
    assert json.loads(calls[0][1]) == json.loads(ARGUMENTS)
    assert text == ""


@pytest.mark.parametrize(
    ("template", "dialect"),
    [
        ("... <tool_call> ...", HERMES),
        ("[TOOL_CALLS]", MISTRAL),
        ("<|python_tag|>", LLAMA),
        ("{{ messages }}", GENERIC),
    ],
)
def test_a_template_shows_its_dialect(template, dialect):
    assert dialect_of(template) == dialect
