"""Which functions a request offers, which it insists on, and what follows from that."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from modelserver_runtime.backends.base import Grammar, GrammarCompiler, GrammarKind, Tokenizer
from modelserver_runtime.errors import InvalidRequest
from modelserver_runtime.rest.schemas.generation import ChatRequest
from modelserver_runtime.rest.schemas.tools import FunctionDefinition
from modelserver_runtime.rest.tools.dialect import Dialect, dialect_of
from modelserver_runtime.rest.tools.forcing import MOST_CALLS, grammar_of_calls
from modelserver_runtime.rest.tools.parsing import CallReader, DescribedReader
from modelserver_runtime.rest.tools.pieces import AnswerReader, PlainReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """`forced` is empty if the model may also answer with text; `most` bounds the calls."""

    offered: Sequence[FunctionDefinition] = ()
    forced: Sequence[FunctionDefinition] = ()
    dialect: Dialect = Dialect()  # noqa: RUF009  frozen
    most: int | None = None

    def grammar(self, answer: Grammar | None, compiler: GrammarCompiler) -> Grammar | None:
        """Of the whole answer, where `answer` is that of its text."""
        if self.forced:
            most = self.most or MOST_CALLS
            return grammar_of_calls(self.forced, self.dialect, compiler, most=most)
        if not self.offered or answer is None:
            return answer
        if answer.kind is not GrammarKind.JSON_SCHEMA:
            raise InvalidRequest(
                "structured_outputs other than json cannot be combined with tools that may be "
                "called; set tool_choice to none or to required",
                param="structured_outputs",
            )
        return grammar_of_calls(
            self.offered,
            self.dialect,
            compiler,
            most=self.most or MOST_CALLS,
            otherwise=json.loads(answer.text),
        )

    def make_reader(self) -> AnswerReader:
        if not self.offered:
            return PlainReader()
        names = {function.name for function in self.offered}
        return CallReader(self.dialect, names, most=self.most)

    @property
    def needs_marks(self) -> bool:
        """Whether the text must show special tokens, as marks of calls may be such."""
        return bool(self.offered and self.dialect.opening)


def select(body: ChatRequest, tokenizer: Tokenizer) -> Selection:
    functions = [tool.function for tool in body.tools or ()]
    _require_sensible(body, [function.name for function in functions])
    if not functions or body.tool_choice == "none":
        return Selection()
    dialect = dialect_of(tokenizer.chat_template)
    most = 1 if body.parallel_tool_calls is False else None
    match body.tool_choice:
        case None | "auto":
            return Selection(offered=functions, dialect=dialect, most=most)
        case "required":
            return Selection(offered=functions, forced=functions, dialect=dialect, most=most)
        case named:
            forced = [function for function in functions if function.name == named.function.name]
            return Selection(offered=functions, forced=forced, dialect=dialect, most=1)


def _require_sensible(body: ChatRequest, names: Sequence[str]) -> None:
    if doubled := {name for name in names if names.count(name) > 1}:
        raise InvalidRequest(
            f"tools has several functions named {min(doubled)}; names must differ", param="tools"
        )
    if body.tool_choice in {None, "none", "auto"}:
        return
    if not names:
        raise InvalidRequest("tool_choice wants a call, and tools is empty", param="tool_choice")
    wanted = None if isinstance(body.tool_choice, str) else body.tool_choice
    if wanted is not None and wanted.function.name not in names:
        raise InvalidRequest(
            f"tool_choice names {wanted.function.name}, and tools has {', '.join(names)}",
            param="tool_choice",
        )


def reader_of(
    selection: Selection, tokenizer: Tokenizer, prompt: Sequence[int]
) -> tuple[Callable[[], AnswerReader], bool]:
    """What reads an answer, and whether it must see special tokens.

    The description in the model's own files goes first, except where a grammar has forced calls.
    """
    tools = [{"function": function.model_dump()} for function in selection.offered]
    if selection.forced or tokenizer.response_parser("", tools) is None:
        return selection.make_reader, selection.needs_marks
    text = tokenizer.decode(prompt, skip_special_tokens=False)

    def make() -> AnswerReader:
        parser = tokenizer.response_parser(text, tools)
        return selection.make_reader() if parser is None else DescribedReader(parser)

    return make, True
