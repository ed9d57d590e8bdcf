"""Golden sets: a line that is wrong is refused with its number and a sentence."""

import json
from pathlib import Path

import pytest

from modelserver_runtime.errors import InvalidConfiguration
from modelserver_runtime.preflight.cases import MOST_BYTES, GoldenSet

GOOD = {"name": "a", "request": {"prompt": "x"}, "path": "/v1/completions"}


def line(**changes) -> str:
    return json.dumps({**GOOD, **changes})


def expecting(**expect) -> str:
    return line(expect=expect)


def test_comments_and_empty_lines_are_for_people():
    cases = GoldenSet.parse(f"# the first\n\n{line()}\n  # the second\n{line(name='b')}\n").cases
    assert [case.name for case in cases] == ["a", "b"]


def test_a_case_is_asked_of_the_chat_unless_it_says_otherwise():
    [case] = GoldenSet.parse(json.dumps({"name": "a", "request": {}})).cases
    assert case.path == "/v1/chat/completions"
    assert case.expect.status == 200


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "There is no case; write at least one JSON object on a line"),
        ("# nothing\n", "There is no case; write at least one JSON object on a line"),
        ("{", "Line 1: Invalid JSON: EOF while parsing an object"),
        (f"{line()}\nhello", "Line 2: Invalid JSON: expected value"),
        ("[]", "Line 1: Input should be an object"),
        ('{"name": "a"}', "Line 1, request: Field required"),
        (line(expected={}), "Line 1, expected: Extra inputs are not permitted"),
        (line(path="v1"), "Line 1, path: String should match pattern"),
        (line(name=""), "Line 1, name: String should have at least 1 character"),
        (line(request={"stream": True}), "Line 1, request: stream must not be true"),
        (f"{line()}\n\n{line()}", "Line 3: the name 'a' is that of line 1 too; give every case"),
        (expecting(exakt="x"), "Line 1, expect.exakt: Extra inputs are not permitted"),
        (expecting(regex="("), "Line 1, expect.regex: '(' is no regular expression: missing )"),
        (
            expecting(jsonSchema={"type": "objekt"}),
            'Line 1, expect.jsonSchema: this is no JSON schema: "objekt" is not valid',
        ),
        (
            expecting(jsonSchema={"$ref": "http://example.com/s"}),
            "Line 1, expect.jsonSchema: this is no JSON schema: Resource 'http://example.com/s'",
        ),
        (expecting(contains=""), "Line 1, expect.contains: String should have at least 1"),
        (expecting(maxMilliseconds=0), "Line 1, expect.maxMilliseconds: Input should be greater"),
        (expecting(status=99), "Line 1, expect.status: Input should be greater than or equal"),
        (expecting(cosine={"of": []}), "Line 1, expect.cosine.of: List should have at least 1"),
        (
            expecting(cosine={"of": [0, 0.0]}),
            "Line 1, expect.cosine.of: of must have finite numbers, and one that is not 0",
        ),
        (
            expecting(cosine={"of": [1], "min": 2}),
            "Line 1, expect.cosine.min: Input should be less than or equal to 1",
        ),
    ],
)
def test_a_wrong_line_is_refused_with_its_number(text, sentence):
    with pytest.raises(InvalidConfiguration) as refused:
        GoldenSet.parse(text)
    assert refused.value.message.startswith(sentence)


def test_more_than_a_config_map_holds_is_refused():
    with pytest.raises(InvalidConfiguration, match="more than 1 MiB"):
        GoldenSet.parse("#" + "x" * MOST_BYTES)


def test_the_cases_in_the_documentation_are_good():
    page = (Path(__file__).parents[2] / "docs" / "preflight.md").read_text()
    blocks = [part.split("```")[0] for part in page.split("```json\n")[1:]]
    names = [case.name for block in blocks for case in GoldenSet.parse(block).cases]
    assert len(names) >= 6
