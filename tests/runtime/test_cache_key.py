"""Keys: whatever differs in one thing has another key, and nothing else has."""

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_runtime.backends.base import (
    Grammar,
    GrammarKind,
    SamplingParameters,
    TaskItem,
)
from modelserver_runtime.cache.calls import ModelKey
from modelserver_runtime.cache.key import NotIdentifiable, canonical, key_of
from modelserver_runtime.engine.output import TextRules
from modelserver_runtime.engine.request import GenerationRequest, Ticket

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3), inner, max_size=4)
        | st.frozensets(st.integers(), max_size=4)
    ),
    max_leaves=8,
)


def told_apart(value: Any) -> Any:
    """Python's own equality, made to tell 1, 1.0 and True apart, and 0.0 from -0.0."""
    match value:
        case dict():
            return frozenset((name, told_apart(entry)) for name, entry in value.items())
        case list() | tuple():
            return ("list", *map(told_apart, value))
        case frozenset():
            return ("set", value)
        case float():
            return ("float", value, math.copysign(1, value))
        case _:
            return (type(value).__name__, value)


@given(values, values)
def test_values_are_equal_exactly_if_their_canonical_forms_are(one, other):
    assert (canonical(one) == canonical(other)) == (told_apart(one) == told_apart(other))


@given(st.lists(st.text(max_size=4), max_size=4), st.lists(st.text(max_size=4), max_size=4))
def test_texts_cannot_run_into_each_other(one, other):
    assert (key_of(*one) == key_of(*other)) == (one == other)


@given(st.dictionaries(st.text(max_size=3), st.integers(), max_size=6), st.randoms())
def test_the_order_of_a_mapping_does_not_matter(mapping, random):
    pairs = list(mapping.items())
    random.shuffle(pairs)
    assert key_of(dict(pairs)) == key_of(mapping)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1, 2], [12]),
        ([1], [True]),
        ([1], [1.0]),
        ([2**70], [2**71]),
        ([[1], [2]], [[1, 2]]),
        ("1", 1),
        ("a", b"a"),
        (None, ""),
        ({"a": None}, {}),
        ([], ""),
        (math.inf, -math.inf),
    ],
)
def test_neighbours_are_told_apart(one, other):
    assert canonical(one) != canonical(other)


def test_a_list_and_a_tuple_are_the_same():
    assert key_of([1, "a"]) == key_of((1, "a"))


def test_what_has_no_canonical_form_has_no_key():
    with pytest.raises(NotIdentifiable, match="object"):
        key_of({"inputs": [object()]})


def a_request(**changes: Any) -> GenerationRequest:
    values = {
        "prompt_token_ids": (1, 2, 3),
        "sampling": SamplingParameters(max_tokens=5, temperature=0.0),
        "rules": TextRules(stop_strings=("a",)),
    }
    return GenerationRequest(**{**values, **changes})


# Another value for every field of a request: a field that is new fails the test below.
OTHER_SAMPLING = {
    "max_tokens": 6,
    "min_tokens": 1,
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 3,
    "min_p": 0.1,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.1,
    "repetition_penalty": 1.1,
    "seed": 0,
    "logit_bias": {1: 0.5},
    "stop_token_ids": frozenset({7}),
    "ignore_end": True,
    "logprobs": 0,
    "prompt_logprobs": 0,
    "grammar": Grammar(kind=GrammarKind.REGEX, text="a+"),
}
OTHER_RULES = {"stop_strings": ("b",), "skip_special_tokens": False, "context": (1,)}
OTHER_REQUEST = {
    "prompt_token_ids": (1, 2),
    "sampling": SamplingParameters(max_tokens=7),
    "rules": TextRules(),
    "cache_salt": "mine",
    "prediction": (5,),
}
PLAIN = a_request()
DIFFERENT = [
    *(a_request(**{name: value}) for name, value in OTHER_REQUEST.items()),
    *(
        a_request(sampling=replace(PLAIN.sampling, **{name: value}))
        for name, value in OTHER_SAMPLING.items()
    ),
    *(
        a_request(rules=replace(PLAIN.rules, **{name: value}))
        for name, value in OTHER_RULES.items()
    ),
    a_request(
        sampling=replace(PLAIN.sampling, grammar=Grammar(kind=GrammarKind.JSON_SCHEMA, text="a+"))
    ),
]


@pytest.mark.parametrize(
    ("kind", "others"),
    [
        (SamplingParameters, OTHER_SAMPLING),
        (TextRules, OTHER_RULES),
        (GenerationRequest, OTHER_REQUEST),
    ],
)
def test_every_field_of_a_request_is_tried_below(kind, others):
    assert {field.name for field in fields(kind)} == set(others)


def test_requests_that_differ_in_one_field_have_different_keys():
    keys = {key_of(request) for request in [PLAIN, *DIFFERENT]}
    assert len(keys) == len(DIFFERENT) + 1


def test_equal_requests_have_the_same_key():
    assert key_of(a_request()) == key_of(a_request())
    bias = [{1: 0.5, 2: 0.1}, {2: 0.1, 1: 0.5}]
    one, other = (a_request(sampling=replace(PLAIN.sampling, logit_bias=b)) for b in bias)
    assert key_of(one) == key_of(other)


def test_equal_fields_of_another_kind_of_request_have_another_key():
    @dataclass(frozen=True)
    class OtherItem:
        inputs: Any
        parameters: Any

    assert key_of(TaskItem(inputs="a")) != key_of(OtherItem("a", {}))


def a_ticket(tenant: str) -> Ticket:
    return Ticket(arrived=0, deadline=1, tenant=tenant)


def test_tenants_have_keys_of_their_own_unless_they_share():
    own, shared = ModelKey(identity="m"), ModelKey(identity="m", is_shared=True)
    assert own.of(PLAIN, a_ticket("a")) != own.of(PLAIN, a_ticket("b"))
    assert own.of(PLAIN, a_ticket("a")) == own.of(PLAIN, a_ticket("a"))
    assert shared.of(PLAIN, a_ticket("a")) == shared.of(PLAIN, a_ticket("b"))


def test_models_have_keys_of_their_own():
    one, other = ModelKey(identity="m"), ModelKey(identity="n")
    assert one.of(PLAIN, a_ticket("a")) != other.of(PLAIN, a_ticket("a"))


def test_when_and_how_urgently_does_not_matter():
    later = Ticket(arrived=5, deadline=9, tenant="a")
    key = ModelKey(identity="m")
    assert key.of(PLAIN, later) == key.of(PLAIN, a_ticket("a"))
