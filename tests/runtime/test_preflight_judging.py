"""Whether an answer is as expected, over every route's form of an answer."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_runtime.preflight.cases import Expectation
from modelserver_runtime.preflight.contents import label_of, text_of, vector_of
from modelserver_runtime.preflight.judging import Answer, complaint, cosine
from modelserver_runtime.preflight.result import Outcome, Result

CHAT = {"object": "chat.completion", "choices": [{"message": {"content": "Paris"}}]}
RESPONSE = {
    "object": "response",
    "output": [
        {"type": "reasoning", "content": []},
        {"type": "message", "content": [{"type": "output_text", "text": "Paris"}]},
    ],
}
LABELS = [{"label": "bad", "score": 0.1}, {"label": "good", "score": 0.9}]
ZERO_SHOT = {"sequence": "x", "labels": ["good", "bad"], "scores": [0.9, 0.1]}
EMBEDDING = {"object": "list", "data": [{"embedding": [3.0, 4.0], "index": 0}]}

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("choices", "output", "object", "message", "content", "data", "embedding"),
                    *("labels", "scores", "label", "score", "type", "text"),
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def judged(body: Any, answered: int = 200, /, **expect: Any) -> str:
    expected = Expectation.model_validate_json(json.dumps(expect))
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return complaint(expected, Answer(status=answered, content=content, milliseconds=5))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (CHAT, "Paris"),
        ({"choices": [{"text": "Paris"}, {"text": "Rome"}]}, "Paris"),
        (RESPONSE, "Paris"),
        ({"generated_text": "Paris"}, "Paris"),
        ({"text_output": "Paris"}, "Paris"),
        ({"task": "Summarization", "output": {"summary_text": "Paris"}}, "Paris"),
        ({"task": "QuestionAnswering", "output": {"answer": "Paris", "score": 1}}, "Paris"),
        ({"task": "SpeechRecognition", "output": {"text": "Paris"}}, "Paris"),
        ({"output": ["Paris"]}, "Paris"),
        ({"output": ["Paris", "Rome"]}, None),
        ({"choices": [{"message": {"content": None, "tool_calls": []}}]}, None),
        ({"choices": []}, None),
        (EMBEDDING, None),
    ],
)
def test_the_text_of_every_route_is_found(body, text):
    assert text_of(body) == text


@pytest.mark.parametrize(
    ("body", "label"),
    [
        ({"task": "TextClassification", "output": LABELS}, "good"),
        (LABELS, "good"),
        ({"output": ZERO_SHOT}, "good"),
        (ZERO_SHOT, "good"),
        (CHAT, None),
        ({"output": []}, None),
    ],
)
def test_the_best_label_is_the_one_with_the_highest_score(body, label):
    assert label_of(body) == label


@pytest.mark.parametrize(
    ("body", "vector"),
    [
        (EMBEDDING, [3.0, 4.0]),
        ({"task": "FeatureExtraction", "output": [[1, 2]]}, [1.0, 2.0]),
        ({"output": [[1, 2], [3, 4]]}, None),
        ({"data": [{"embedding": "AACAPw=="}]}, None),
        (CHAT, None),
    ],
)
def test_one_vector_is_found_and_several_are_none(body, vector):
    assert vector_of(body) == vector


@given(ANYTHING)
def test_no_answer_is_so_strange_that_it_cannot_be_judged(body):
    for expect in (
        {"exact": "x"},
        {"contains": "x"},
        {"regex": "x"},
        {"label": "x"},
        {"jsonSchema": {"type": "string"}},
        {"cosine": {"of": [1, 2]}},
    ):
        assert isinstance(judged(body, **expect), str)


@pytest.mark.parametrize(
    ("body", "expect"),
    [
        (CHAT, {"exact": "Paris"}),
        (CHAT, {"contains": "ari", "regex": "^P", "status": 200, "maxMilliseconds": 5}),
        ({"output": LABELS}, {"label": "good"}),
        (EMBEDDING, {"cosine": {"of": [6, 8], "min": 1}}),
        ({"generated_text": '{"a": 1}'}, {"jsonSchema": {"required": ["a"]}}),
        ({"output": [1, 2]}, {"jsonSchema": {"properties": {"output": {"minItems": 2}}}}),
        (b"plain", {"exact": "plain"}),
        (CHAT, {}),
    ],
)
def test_what_is_as_expected_passes(body, expect):
    assert judged(body, **expect) == ""


@pytest.mark.parametrize(
    ("body", "expect", "sentence"),
    [
        (CHAT, {"exact": "paris"}, "expected the text 'paris', got 'Paris'"),
        (CHAT, {"contains": "Rome"}, "expected a text with 'Rome' in it, got 'Paris'"),
        (CHAT, {"regex": "^p"}, "expected a text that matches '^p', got 'Paris'"),
        (CHAT, {"exact": "Paris", "contains": "x"}, "expected a text with 'x' in it, got 'Paris'"),
        (CHAT, {"label": "good"}, "expected labels with scores, the answer has none"),
        (CHAT, {"maxMilliseconds": 4}, "expected an answer within 4 ms, it took 5 ms"),
        (CHAT, {"status": 400}, "expected status 400, got 200: {"),
        (EMBEDDING, {"exact": "x"}, "expected a text, the answer has none"),
        (LABELS, {"label": "bad"}, "expected the label 'bad' to be the best, got 'good'"),
        (EMBEDDING, {"cosine": {"of": [1]}}, "expected a vector of 1 numbers, got one of 2"),
        (
            EMBEDDING,
            {"cosine": {"of": [4, -3]}},
            "expected a cosine of 0.98 or more, got 0.0000",
        ),
        (CHAT, {"cosine": {"of": [1]}}, "expected one vector of numbers, the answer has none"),
        (CHAT, {"jsonSchema": {}}, "expected a text that is JSON, got 'Paris'"),
        (
            {"generated_text": '{"a": {"b": "x"}}'},
            {"jsonSchema": {"properties": {"a": {"properties": {"b": {"type": "integer"}}}}}},
            'expected JSON of the schema at /a/b: "x" is not of type "integer"',
        ),
    ],
)
def test_what_is_not_is_said_in_a_sentence(body, expect, sentence):
    assert judged(body, 200, **expect).startswith(sentence)


def test_an_error_is_told_in_the_server_s_words():
    body = {"error": {"message": "The prompt is too long"}}
    assert judged(body, 400) == "expected status 200, got 400: The prompt is too long"
    assert judged(b"<html>Bad Gateway</html>", 502).endswith("<html>Bad Gateway</html>")


def test_a_long_answer_is_cut():
    sentence = judged({"generated_text": "x" * 5000}, exact="y")
    assert len(sentence) < 200
    assert "…" in sentence


@given(st.lists(st.floats(allow_nan=False, width=32), min_size=1, max_size=5))
def test_a_cosine_is_a_number_between_minus_one_and_one(vector):
    assert -1.001 <= cosine(vector, [1.0] * len(vector)) <= 1.001


def test_a_vector_points_where_it_points():
    assert math.isclose(cosine([1, 2, 3], [2, 4, 6]), 1)
    assert math.isclose(cosine([1, 0], [-1, 0]), -1)
    assert cosine([0, 0], [1, 1]) == 0


@given(
    st.lists(
        st.builds(Outcome, name=st.text(min_size=1, max_size=80), complaint=st.text(max_size=300)),
        max_size=80,
    ),
    st.integers(1, 100),
)
def test_the_last_words_always_fit_and_their_counts_are_right(outcomes, percent):
    result = Result(outcomes=tuple(outcomes), min_pass_percent=percent)
    message = result.as_message()
    assert len(json.dumps(message).encode()) < 4096
    assert message["passed"] + message["failed"] == message["total"] == len(outcomes)
    failed = [one.name for one in outcomes if not one.has_passed]
    assert [one["name"] for one in message["failures"]] == failed[: len(message["failures"])]
    if failed:
        assert message["failures"]
    assert result.has_passed == (message["passed"] * 100 >= percent * len(outcomes))
