"""Grammars that an answer must follow: which tokens may come next, by llguidance."""

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import llguidance.hf
import numpy as np
from llguidance import LLMatcher, LLTokenizer
from llguidance.gbnf_to_lark import any_to_lark
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from modelserver_runtime.backends.base import Grammar, GrammarKind
from modelserver_runtime.errors import InvalidRequest

# Compiled grammars that are kept; one is some kilobytes, a very large one some megabytes.
_MOST_COMPILED = 256
# Between two parts of JSON one space, or one line break with an indentation. Any amount of white
# space is valid JSON too, but small models then write it until they have no tokens left.
_JSON_OPTIONS: Any = {"whitespace_pattern": r" |\n {0,16}"}
# Numbered lines of the grammar in a message, and the mark below one of them.
_IS_SOURCE = re.compile(r"\s*(\d+ \||\^\s*$)")


class GrammarNotFollowed(ValueError):
    """An answer cannot go on as its grammar demands."""


class Constraint:
    """The state of one sequence in its grammar. Used by the model's thread only.

    Its methods raise GrammarNotFollowed if the grammar cannot be followed (any more).
    """

    def __init__(self, compiler: "LLGuidanceCompiler", grammar: Grammar) -> None:
        self._compiler = compiler
        self._grammar = grammar
        self._matcher: LLMatcher | None = None

    def restrict(self, logits: NDArray[np.float32]) -> None:
        """Rules out what may not come next, in logits of shape [vocabulary]."""
        matcher = self._begun()
        words = matcher.compute_bitmask()
        _require_sound(matcher)
        bits = np.unpackbits(np.frombuffer(words, np.uint8), bitorder="little")
        logits[bits[: logits.size] == 0] = -np.inf

    def advance(self, token_id: int) -> None:
        matcher = self._begun()
        matcher.consume_token(token_id)
        _require_sound(matcher)

    def _begun(self) -> LLMatcher:
        """A copy of what was compiled: microseconds, unless it had to make room since then."""
        if self._matcher is None:
            try:
                self._matcher = self._compiler.compiled(self._grammar).deep_copy()
            except InvalidRequest as error:
                raise GrammarNotFollowed(error.message) from error
        return self._matcher


def _require_sound(matcher: LLMatcher) -> None:
    if matcher.is_error():
        raise GrammarNotFollowed(f"the grammar could not be followed: {_reason(matcher)}")


class LLGuidanceCompiler:
    """See `backends.base.GrammarCompiler`. Keeps what was compiled last."""

    def __init__(
        self, tokenizer: Any, *, vocabulary_size: int, end_token_ids: frozenset[int]
    ) -> None:
        self._tokenizer = tokenizer
        self._vocabulary_size = vocabulary_size
        self._end_token_ids = end_token_ids
        self._compiled: OrderedDict[Grammar, LLMatcher] = OrderedDict()
        self._lock = threading.Lock()
        self._making_vocabulary = threading.Lock()
        self._vocabulary: LLTokenizer | None = None

    def prepare(self, grammar: Grammar) -> None:
        self.compiled(grammar)

    def constraint(self, grammar: Grammar | None) -> Constraint | None:
        """For one sequence."""
        return None if grammar is None else Constraint(self, grammar)

    def marker(self, text: str) -> str:
        token_id = self._tokenizer.convert_tokens_to_ids(text)
        if isinstance(token_id, int) and token_id in self._tokenizer.all_special_ids:
            return f"<[{token_id}]>"
        return json.dumps(text, ensure_ascii=False)

    def json_rule(self, schema: Mapping[str, Any]) -> str:
        options = {**_JSON_OPTIONS, **schema.get("x-guidance", {})}
        return f"%json {json.dumps({**schema, 'x-guidance': options}, ensure_ascii=False)}"

    def compiled(self, grammar: Grammar) -> LLMatcher:
        with self._lock:
            if grammar in self._compiled:
                self._compiled.move_to_end(grammar)
                return self._compiled[grammar]
        matcher = self._compile(grammar)
        with self._lock:
            self._compiled[grammar] = matcher
            if len(self._compiled) > _MOST_COMPILED:
                self._compiled.popitem(last=False)
        return matcher

    def _compile(self, grammar: Grammar) -> LLMatcher:
        try:
            matcher = LLMatcher(self._known_tokens(), _source(grammar), log_level=0)
        except ValueError as error:  # not even JSON of an object, or not Unicode
            raise _unusable(grammar, str(error)) from error
        if matcher.is_error():
            raise _unusable(grammar, _reason(matcher))
        return matcher

    def _known_tokens(self) -> LLTokenizer:
        """Made at the first grammar: a second of work for a large vocabulary."""
        with self._making_vocabulary:
            if self._vocabulary is None:
                self._vocabulary = self._make_vocabulary()
            return self._vocabulary

    def _make_vocabulary(self) -> LLTokenizer:
        if not isinstance(self._tokenizer, PreTrainedTokenizerFast) or not self._end_token_ids:
            raise InvalidRequest(
                "The answers of this model cannot be held to a grammar: that needs a fast "
                "tokenizer and an end token; leave the grammar away"
            )
        return llguidance.hf.from_tokenizer(
            self._tokenizer,
            n_vocab=self._vocabulary_size,
            eos_token=sorted(self._end_token_ids),
        )


_NAMES = {
    GrammarKind.JSON_SCHEMA: "JSON schema",
    GrammarKind.REGEX: "regular expression",
    GrammarKind.GRAMMAR: "grammar",
    GrammarKind.LARK: "grammar of the tools",
}


def _unusable(grammar: Grammar, reason: str) -> InvalidRequest:
    return InvalidRequest(f"The {_NAMES[grammar.kind]} cannot be used: {reason}")


def _source(grammar: Grammar) -> str:
    match grammar.kind:
        case GrammarKind.JSON_SCHEMA:
            return LLMatcher.grammar_from_json_schema(grammar.text, defaults=_JSON_OPTIONS)
        case GrammarKind.REGEX:
            return LLMatcher.grammar_from_regex(grammar.text)
        case GrammarKind.GRAMMAR:
            return LLMatcher.grammar_from_lark(_as_lark(grammar.text))
        case GrammarKind.LARK:
            return LLMatcher.grammar_from_lark(grammar.text)


def _as_lark(text: str) -> str:
    try:
        return str(any_to_lark(text))
    except Exception as error:  # its parser raises whatever it likes
        raise InvalidRequest(f"The grammar cannot be used: {error}") from error


def _reason(matcher: LLMatcher) -> str:
    """On one line, without the source and without the advice for users of the library."""
    lines = matcher.get_error().partition(". Enable ")[0].splitlines()
    return " ".join(" ".join(line for line in lines if not _IS_SOURCE.match(line)).split())
