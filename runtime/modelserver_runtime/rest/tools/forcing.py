"""Grammars of answers that are calls, whose arguments always follow their schemas."""

import json
from collections.abc import Sequence
from typing import Any

from modelserver_runtime.backends.base import Grammar, GrammarCompiler, GrammarKind
from modelserver_runtime.rest.schemas.tools import FunctionDefinition
from modelserver_runtime.rest.tools.dialect import Dialect

# A model that may call as often as it likes may never stop.
MOST_CALLS = 16
_NO_PARAMETERS = {"properties": {}, "additionalProperties": False}


def grammar_of_calls(
    functions: Sequence[FunctionDefinition],
    dialect: Dialect,
    compiler: GrammarCompiler,
    *,
    most: int = MOST_CALLS,
    otherwise: Any = None,
) -> Grammar:
    """One call or several; or, with `otherwise`, JSON that follows this schema."""
    start = "calls" if otherwise is None else "calls | answer"
    rules = [f"start: {start}", *_blocks(dialect, compiler, most)]
    rules.append("call: " + " | ".join(f"call_{index}" for index in range(len(functions))))
    for index, function in enumerate(functions):
        rules.extend(_call(index, function, dialect, compiler))
    if otherwise is not None:
        rules.append(f"answer: {compiler.json_rule(otherwise)}")
    return Grammar(kind=GrammarKind.LARK, text="\n".join(rules))


def _blocks(dialect: Dialect, compiler: GrammarCompiler, most: int) -> list[str]:
    opening = compiler.marker(dialect.opening) if dialect.opening else ""
    closing = compiler.marker(dialect.closing) if dialect.closing else ""
    if dialect.is_list:
        return [f'calls: {opening} " [" call {_more('", " call', most)} "]" {closing}']
    line = r'"\n"' if dialect.line_breaks else ""
    block = f"block: {opening} {line} call {line} {closing}"
    return [rf"calls: block {_more(r'"\n" block', most)}", block]


def _more(part: str, most: int) -> str:
    return f"({part}){{0,{most - 1}}}" if most > 1 else ""


def _call(
    index: int, function: FunctionDefinition, dialect: Dialect, compiler: GrammarCompiler
) -> list[str]:
    head = json.dumps(f'{{"name": {json.dumps(function.name)}, "{dialect.arguments_key}": ')
    parameters = _NO_PARAMETERS if function.parameters is None else function.parameters
    schema = {**parameters, "type": "object"}
    return [
        f'call_{index}: {head} arguments_{index} "}}"',
        f"arguments_{index}: {compiler.json_rule(schema)}",
    ]
