"""What an answer must look like, from a request's fields to a grammar that is compiled."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from modelserver_runtime.backends.base import Grammar, GrammarCompiler, GrammarKind
from modelserver_runtime.errors import InvalidRequest
from modelserver_runtime.rest.schemas.formats import ResponseFormat, StructuredOutputs
from modelserver_runtime.rest.schemas.generation import SamplingFields

# Most take milliseconds, and the limits of the library end the others after a second or two.
_COMPILE_SECONDS = 10.0
# Two, so that one slow grammar does not hold up the others. Idle until there is a grammar.
_COMPILING = ThreadPoolExecutor(max_workers=2, thread_name_prefix="grammar")
_ANY_OBJECT = {"type": "object"}


def json_grammar(schema: Any) -> Grammar:
    return Grammar(kind=GrammarKind.JSON_SCHEMA, text=json_text(schema))


def json_text(value: Any) -> str:
    """Keeps the order of keys, which is the order in which an answer has them."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def format_of(fields: SamplingFields) -> tuple[Grammar | None, str]:
    """The grammar of an answer's text, and the field that asks for it."""
    response_format, structured = fields.response_format, fields.structured_outputs
    if response_format is None or response_format.type == "text":
        if structured is None:
            return None, "response_format"
        return _of_structured(structured), "structured_outputs"
    if structured is not None:
        raise InvalidRequest(
            "structured_outputs and response_format both say what the answer looks like; "
            "send only one of them",
            param="structured_outputs",
        )
    return _of_format(response_format), "response_format"


def _of_format(response_format: ResponseFormat) -> Grammar:
    if response_format.json_schema is None or response_format.type == "json_object":
        return json_grammar(_ANY_OBJECT)
    schema = response_format.json_schema.content
    return json_grammar(_ANY_OBJECT if schema is None else schema)


def _of_structured(wanted: StructuredOutputs) -> Grammar:
    if wanted.json_ is not None:
        return json_grammar(_parsed(wanted.json_))
    if wanted.regex is not None:
        return Grammar(kind=GrammarKind.REGEX, text=wanted.regex)
    if wanted.choice is not None:
        choices = " | ".join(json.dumps(text, ensure_ascii=False) for text in wanted.choice)
        return Grammar(kind=GrammarKind.LARK, text=f"start: {choices}")
    if wanted.grammar is not None:
        return Grammar(kind=GrammarKind.GRAMMAR, text=wanted.grammar)
    return json_grammar(_ANY_OBJECT)


def _parsed(schema: dict[str, Any] | str) -> Any:
    if not isinstance(schema, str):
        return schema
    try:
        return json.loads(schema)
    except ValueError as error:
        raise InvalidRequest(
            f"structured_outputs.json is not valid JSON: {error}", param="structured_outputs.json"
        ) from error


def require_compatible(fields: SamplingFields, param: str) -> None:
    """A grammar decides where the answer ends; these fields would, too."""
    for name in ("min_tokens", "ignore_eos"):
        if getattr(fields, name):
            raise InvalidRequest(
                f"{name} cannot be combined with {param}, which decides where the answer ends; "
                "leave it away",
                param=name,
            )


async def compile_grammar(compiler: GrammarCompiler, grammar: Grammar, param: str) -> None:
    """Before the request goes to the engine, whose thread never waits for it."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_COMPILE_SECONDS):
            await loop.run_in_executor(_COMPILING, compiler.prepare, grammar)
    except InvalidRequest as error:
        raise InvalidRequest(error.message, param=param) from error
    except TimeoutError as error:
        raise InvalidRequest(
            f"{param} was not compiled within {_COMPILE_SECONDS:.0f} s; make it simpler",
            param=param,
        ) from error
