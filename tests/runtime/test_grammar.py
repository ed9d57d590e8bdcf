"""Whatever a model would rather say, its answer follows the grammar."""

import json
from typing import Any

import jsonschema_rs
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelserver_runtime.backends.base import Grammar, GrammarKind, SamplingParameters
from modelserver_runtime.backends.grammar import LLGuidanceCompiler
from modelserver_runtime.backends.sampling import Sampler
from modelserver_runtime.errors import InvalidRequest
from modelserver_runtime.rest.grammars import json_grammar
from support import tiny_models

TOKENIZER = tiny_models._byte_level_tokenizer()
VOCABULARY = len(TOKENIZER)
END = TOKENIZER.eos_token_id
# More tokens than any answer of the schemas below can have: they bound every part.
MOST_TOKENS = 4000


@pytest.fixture(scope="module")
def compiler() -> LLGuidanceCompiler:
    return LLGuidanceCompiler(TOKENIZER, vocabulary_size=VOCABULARY, end_token_ids=frozenset({END}))


def answer(compiler: LLGuidanceCompiler, grammar: Grammar, *, seed: int, **sampling: Any) -> str:
    """What a model says that finds every token as likely as any other, but for its moods."""
    parameters = SamplingParameters(max_tokens=MOST_TOKENS, seed=seed, grammar=grammar, **sampling)
    constraint = compiler.constraint(grammar)
    sampler = Sampler(parameters, (), frozenset({END}), constraint)
    moods = torch.randn(64, VOCABULARY, generator=torch.Generator().manual_seed(seed))
    said: list[int] = []
    while len(said) < MOST_TOKENS:
        token_id, _ = sampler.sample(moods[len(said) % 64].clone())
        if token_id == END:
            return str(TOKENIZER.decode(said))
        said.append(token_id)
    raise AssertionError(f"never ended: {TOKENIZER.decode(said)[:300]}")


scalars = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.builds(
        lambda low, size: {"type": "integer", "minimum": low, "maximum": low + size},
        st.integers(-50, 50),
        st.integers(0, 100),
    ),
    st.builds(
        lambda shortest, more: {
            "type": "string",
            "minLength": shortest,
            "maxLength": shortest + more,
        },
        st.integers(0, 4),
        st.integers(0, 6),
    ),
    st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=4, unique=True).map(
        lambda texts: {"enum": texts}
    ),
    st.sampled_from(["[a-f]{2,5}", "(yes|no)!?", "\\d{1,3}-\\d{2}"]).map(
        lambda pattern: {"type": "string", "pattern": f"^{pattern}$"}
    ),
    st.one_of(st.integers(-9, 9), st.booleans(), st.text(max_size=5)).map(
        lambda value: {"const": value}
    ),
)


def _object(properties: dict[str, Any], how_many_required: int) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties)[:how_many_required],
        "additionalProperties": False,
    }


def _containers(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        st.builds(
            _object, st.dictionaries(st.text(max_size=5), inner, max_size=3), st.integers(0, 3)
        ),
        st.builds(
            lambda items, least, more: {
                "type": "array",
                "items": items,
                "minItems": least,
                "maxItems": least + more,
            },
            inner,
            st.integers(0, 2),
            st.integers(0, 2),
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"anyOf": parts}),
    )


schemas = st.recursive(scalars, _containers, max_leaves=6)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(schema=schemas, seed=st.integers(0, 2**32), temperature=st.sampled_from([0.0, 0.7, 2.0]))
def test_an_answer_is_valid_by_its_schema(compiler, schema, seed, temperature):
    text = answer(compiler, json_grammar(schema), seed=seed, temperature=temperature, top_p=0.9)
    jsonschema_rs.validate(schema, json.loads(text))


@pytest.mark.parametrize("seed", range(5))
def test_white_space_is_bounded(compiler, seed):
    grammar = json_grammar(_object({"a": {"const": 1}, "b": {"const": 2}}, 2))
    likes_space = {
        TOKENIZER.convert_tokens_to_ids(piece): 90.0
        for piece in TOKENIZER.get_vocab()
        if not TOKENIZER.convert_tokens_to_string([piece]).strip()
    }
    text = answer(compiler, grammar, seed=seed, logit_bias=likes_space)
    assert json.loads(text) == {"a": 1, "b": 2}
    assert len(text) < 200


@pytest.mark.parametrize("seed", range(5))
def test_a_regular_expression_and_a_grammar_are_followed(compiler, seed):
    regex = Grammar(kind=GrammarKind.REGEX, text="(ab|cd){2,3}ü")
    assert answer(compiler, regex, seed=seed).strip("abcd") == "ü"
    lark = Grammar(kind=GrammarKind.GRAMMAR, text='start: "x" digit\ndigit: /[0-9]/')
    assert answer(compiler, lark, seed=seed)[1:].isdecimal()
    gbnf = Grammar(kind=GrammarKind.GRAMMAR, text='root ::= "yes" | "no"')
    assert answer(compiler, gbnf, seed=seed) in {"yes", "no"}


WRONG = {
    "unknown type": (json_grammar({"type": "banana"}), "JSON schema cannot be used: Invalid type"),
    "dangling reference": (json_grammar({"$ref": "#/nope"}), "'/nope' does not exist"),
    "reference to elsewhere": (json_grammar({"$ref": "http://x/y"}), "does not fetch resources"),
    "impossible": (
        json_grammar({"type": "integer", "minimum": 5, "maximum": 3}),
        "minimum (5) is greater than maximum (3)",
    ),
    "not implemented": (json_grammar({"not": {}}), 'Unimplemented keys: ["not"]'),
    "pattern": (json_grammar({"type": "string", "pattern": "("}), "unclosed group"),
    "list as schema": (json_grammar([1]), "JSON schema cannot be used"),
    "regex": (Grammar(kind=GrammarKind.REGEX, text="(a"), "regular expression cannot be used"),
    "lark": (Grammar(kind=GrammarKind.GRAMMAR, text="start: foo"), 'unknown name: "foo"'),
    "gbnf": (Grammar(kind=GrammarKind.GRAMMAR, text="root ::= ("), "grammar cannot be used"),
}


@pytest.mark.parametrize(("grammar", "says"), WRONG.values(), ids=WRONG.keys())
def test_a_grammar_that_cannot_be_used_is_refused_with_the_reason(compiler, grammar, says):
    with pytest.raises(InvalidRequest) as refused:
        compiler.prepare(grammar)
    assert says in refused.value.message
    assert "\n" not in refused.value.message
    assert answer(compiler, json_grammar({"const": 1}), seed=1) == "1"


def test_a_grammar_that_was_pushed_out_is_compiled_again(monkeypatch, compiler):
    monkeypatch.setattr("modelserver_runtime.backends.grammar._MOST_COMPILED", 2)
    grammars = [json_grammar({"const": number}) for number in range(4)]
    for grammar in grammars:
        compiler.prepare(grammar)
    assert [answer(compiler, grammar, seed=3) for grammar in grammars] == ["0", "1", "2", "3"]


def test_without_an_end_token_there_are_no_grammars():
    endless = LLGuidanceCompiler(TOKENIZER, vocabulary_size=VOCABULARY, end_token_ids=frozenset())
    with pytest.raises(InvalidRequest, match="needs a fast tokenizer and an end token"):
        endless.prepare(json_grammar({}))
