"""The model's name is read out of a body as a JSON parser would, and the rest is left alone."""

import contextlib
import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_runtime.errors import InvalidRequest
from modelserver_runtime.gateway.front.scan import read, renamed, scan

leaves = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.floats(-1e9, 1e9)
values = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12
)
bodies = st.dictionaries(st.text() | st.sampled_from(["messages", "stream"]), values).map(
    lambda body: {key: value for key, value in body.items() if key != "model"}
)


@st.composite
def written(draw):
    """A body with a model somewhere in it, as some client would write it."""
    members = list(draw(bodies).items())
    members.insert(draw(st.integers(0, len(members))), ("model", draw(st.text())))
    return json.dumps(
        dict(members),
        ensure_ascii=draw(st.booleans()),
        indent=draw(st.sampled_from([None, 1])),
    ).encode("utf-8", "surrogatepass")


def parses(body):
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True


@given(written())
def test_the_name_is_what_a_parser_finds(body):
    if parses(body):  # half of a surrogate pair is no text
        found = scan(body)
        assert found.is_complete
        assert found.model == json.loads(body)["model"]
        assert read(body) == found


@given(written(), st.integers(0, 400))
def test_a_part_of_a_body_says_the_same_or_nothing_yet(body, end):
    if parses(body):
        found, whole = scan(body[:end]), read(body)
        assert found.model in {None, whole.model}
        assert found.beginning in {None, whole.beginning}


@given(written(), st.text())
def test_a_renamed_body_differs_in_its_name_only(body, name):
    try:
        name.encode()
        orjson.loads(body)
    except (UnicodeEncodeError, orjson.JSONDecodeError):
        return
    assert json.loads(renamed(body, name)) == json.loads(body) | {"model": name}


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body):
    with contextlib.suppress(InvalidRequest):
        assert scan(body).is_complete in {True, False}


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"model":"a"}', "a"),
        (b' \n{ "model" : "a" } ', "a"),
        (rb'{"mod\u0065l":"a"}', "a"),
        (rb'{"x":"\"model\":\"b\"","model":"a"}', "a"),
        (rb'{"x":"\\","model":"a"}', "a"),
        (b'{"x":{"model":"b"},"model":"a"}', "a"),
        (b'{"x":[{"model":"b"}],"model":"a"}', "a"),
        (b'{"model":"b","model":"a"}', "a"),
        (b'{"x":"}{][","model":"a"}', "a"),
        (b'{"x":-1.5e+3,"model":"a"}', "a"),
        (b"{}", None),
        (b'{"models":"a"}', None),
        (b'{"x":{"model":"b"}}', None),
    ],
)
def test_only_the_outermost_key_counts_and_the_last_of_them(body, model):
    assert scan(body).model == model
    assert read(body).model == model


@pytest.mark.parametrize(
    "body",
    [
        *(b"[]", b'"model"', b"1", b"null", b"model=a", b"{model:1}", b"{'model':'a'}"),
        *(b'{"model":7}', b'{"model":null}', b'{"model":["a"]}', b'{"a" 1}', b'{"a":1 "b":2}'),
        *(b'{"a":[}}', b'{"a":{]}', b'{"a":,}', b'{"model":"\\q"}', b'{"model":"\xff"}'),
    ],
)
def test_what_is_no_object_with_a_name_is_refused(body):
    for look in (scan, read):
        with pytest.raises(InvalidRequest):
            look(body)


def test_a_deep_body_takes_no_stack():
    body = b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b',"model":"a"}'
    assert scan(body).model == "a"
    assert read(body).model == "a"


def chat(*contents, **more):
    roles = ["system", "user", "assistant", "user"]
    messages = [
        {"role": role, "content": text} for role, text in zip(roles, contents, strict=False)
    ]
    return json.dumps({"model": "m", "messages": messages} | more).encode()


def test_the_turns_of_a_conversation_have_the_same_beginning():
    first = scan(chat("be kind", "hello"))
    later = scan(chat("be kind", "hello", "hi", "and now?", temperature=0.5))
    other = scan(chat("be kind", "good day"))
    assert first.beginning == later.beginning
    assert first.beginning
    assert other.beginning != first.beginning


def test_conversations_with_the_same_long_instructions_differ():
    instructions = "be kind " * 10_000
    assert read(chat(instructions, "hello")).beginning != read(chat(instructions, "hi")).beginning


def test_the_beginning_is_known_before_the_messages_have_come():
    body = chat("be kind", "hello", "hi", "and " * 1000)
    part = scan(body[: len(body) - 100])
    assert not part.is_complete
    assert part.beginning == read(body).beginning


def test_the_beginning_is_the_same_however_it_is_written():
    body = chat("be kind", "hello")
    assert read(json.dumps(json.loads(body), indent=2).encode()).beginning == read(body).beginning


@pytest.mark.parametrize(
    ("value", "is_stream"), [(b"true", True), (b"false", False), (b'"true"', False), (b"1", False)]
)
def test_whether_it_is_to_be_a_stream_is_read_as_well(value, is_stream):
    body = b'{"stream":' + value + b"}"
    assert (scan(body).is_stream, read(body).is_stream) == (is_stream, is_stream)
