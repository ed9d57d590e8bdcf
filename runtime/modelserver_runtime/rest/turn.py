"""One turn of a conversation: from messages to prompts, and from deltas to text and calls."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from modelserver_runtime.backends.base import Grammar, Tokenizer
from modelserver_runtime.engine.answering import Generator
from modelserver_runtime.engine.output import Delta, FinishReason, GeneratedToken, TextRules
from modelserver_runtime.engine.request import GenerationRequest, Ticket
from modelserver_runtime.errors import InvalidRequest
from modelserver_runtime.rest.context import ServerContext
from modelserver_runtime.rest.grammars import compile_grammar, format_of, require_compatible
from modelserver_runtime.rest.sampling import Budget, choice, max_tokens, sampling_of
from modelserver_runtime.rest.schemas.generation import ChatRequest
from modelserver_runtime.rest.schemas.tools import CalledFunction, ToolCall
from modelserver_runtime.rest.tools.messages import (
    described,
    knows_tools,
    plain_messages,
    spelled_out,
)
from modelserver_runtime.rest.tools.pieces import (
    AnswerReader,
    CallArguments,
    CallBegun,
    Piece,
    Reasoning,
    Text,
)
from modelserver_runtime.rest.tools.selection import Selection, reader_of, select

type PreparedPrompt = tuple[tuple[int, ...], Callable[[], AnswerReader], bool]
type Finish = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A conversation ready to be continued, once for each of `requests`."""

    engine: Generator
    ticket: Ticket
    requests: Sequence[GenerationRequest]
    prompt_tokens: int
    make_reader: Callable[[], AnswerReader]

    @property
    def tokenizer(self) -> Tokenizer:
        return self.engine.backend.tokenizer


class AnswerProgress:
    """Follows one answer: what is new, and how it ended."""

    def __init__(self, reader: AnswerReader) -> None:
        self._reader = reader
        self._calls = False
        self.finish_reason: Finish | None = None

    def pieces(self, delta: Delta) -> Iterator[Piece]:
        for piece in self._reader.feed(delta.text):
            self._calls = self._calls or isinstance(piece, CallBegun)
            yield piece
        if delta.finish_reason is not None:
            for piece in self._reader.finish():
                self._calls = self._calls or isinstance(piece, CallBegun)
                yield piece
            self.finish_reason = self._reason(delta.finish_reason)

    def _reason(self, reason: FinishReason) -> Finish:
        if reason is FinishReason.LENGTH:
            return "length"
        return "tool_calls" if self._calls else "stop"


@dataclass(slots=True, kw_only=True)
class WholeAnswer:
    """The pieces of one answer, put together."""

    text: str = ""
    reasoning: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    tokens: list[GeneratedToken] = field(default_factory=list)
    completion_tokens: int = 0
    cached_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0
    finish_reason: Finish = "length"

    def add(self, piece: Piece) -> None:
        match piece:
            case Text(text):
                self.text += text
            case Reasoning(text):
                self.reasoning += text
            case CallBegun(call_id=call_id, name=name):
                function = CalledFunction(name=name, arguments="")
                self.calls.append(ToolCall(id=call_id, function=function))
            case CallArguments(index=index, text=text):
                self.calls[index] = _longer(self.calls[index], text)


def _longer(call: ToolCall, text: str) -> ToolCall:
    name, arguments = call.function.name, call.function.arguments + text
    return ToolCall(id=call.id, function=CalledFunction(name=name, arguments=arguments))


async def collect_answers(turn: Turn) -> list[WholeAnswer]:
    answers = [WholeAnswer() for _ in turn.requests]
    progress = [AnswerProgress(turn.make_reader()) for _ in turn.requests]
    async with turn.engine.open(turn.requests, turn.ticket) as deltas:
        async for index, delta in deltas:
            answer = answers[index]
            for piece in progress[index].pieces(delta):
                answer.add(piece)
            answer.tokens.extend(delta.tokens)
            answer.completion_tokens = delta.completion_tokens
            answer.cached_tokens += delta.cached_tokens
            answer.accepted_prediction_tokens += delta.accepted_prediction_tokens
            answer.rejected_prediction_tokens += delta.rejected_prediction_tokens
            answer.finish_reason = progress[index].finish_reason or answer.finish_reason
    return answers


async def prepare_turn(
    body: ChatRequest, context: ServerContext, engine: Generator, ticket: Ticket
) -> Turn:
    """Everything that is wrong with the request is found here."""
    backend = engine.backend
    selection = select(body, backend.tokenizer)
    grammar = await _grammar(body, selection, engine)
    prompt, make_reader, needs_marks = await _remembered_prompt(body, context, engine, selection)
    sampling = sampling_of(
        body,
        backend.defaults,
        backend.limits,
        longest=max_tokens(_budget(body, context), len(prompt), backend.limits),
        logprobs=_logprobs(body),
        grammar=grammar,
    )
    rules = TextRules(
        stop_strings=tuple(body.stop or ()),
        skip_special_tokens=body.skip_special_tokens and not needs_marks,
    )
    prediction = await _prediction(body, context, backend.tokenizer)
    requests = [
        GenerationRequest(
            prompt_token_ids=prompt,
            sampling=choice(sampling, index),
            rules=rules,
            cache_salt=body.cache_salt,
            prediction=prediction,
        )
        for index in range(body.n or 1)
    ]
    return Turn(
        engine=engine,
        ticket=ticket,
        requests=requests,
        prompt_tokens=len(prompt),
        make_reader=make_reader,
    )


async def _remembered_prompt(
    body: ChatRequest, context: ServerContext, engine: Generator, selection: Selection
) -> PreparedPrompt:
    key = body.model_dump_json().encode()
    prompt: PreparedPrompt | None = context.prompts.get(engine, key)
    if prompt is None:
        prompt = await context.in_thread(_prompt, body, selection, engine.backend.tokenizer)
        context.prompts.put(engine, key, prompt)
    return prompt


async def _prediction(
    body: ChatRequest, context: ServerContext, tokenizer: Tokenizer
) -> tuple[int, ...]:
    """Its tokens, as if it began a text: where it follows another, the first one may differ."""
    if body.prediction is None:
        return ()
    encode = partial(tokenizer.encode, add_special_tokens=False)
    return await context.in_thread(encode, body.prediction.content)


async def _grammar(body: ChatRequest, selection: Selection, engine: Generator) -> Grammar | None:
    of_text, param = format_of(body)
    grammar = selection.grammar(of_text, engine.backend.grammars)
    if grammar is None:
        return None
    param = "tools" if selection.forced else param
    require_compatible(body, param)
    await compile_grammar(engine.backend.grammars, grammar, param)
    return grammar


def _prompt(body: ChatRequest, selection: Selection, tokenizer: Tokenizer) -> PreparedPrompt:
    """Also what reads the answer: where a template has begun it, that follows from the prompt."""
    messages = plain_messages(body.messages)
    options = _template_options(body)
    if not knows_tools(tokenizer.chat_template):
        messages = spelled_out(messages, selection.offered)
    elif selection.offered:
        options["tools"] = [described(function) for function in selection.offered]
    prompt = tokenizer.encode_chat(messages, options)
    return prompt, *reader_of(selection, tokenizer, prompt)


def _template_options(body: ChatRequest) -> dict[str, Any]:
    if body.continue_final_message and body.add_generation_prompt:
        raise InvalidRequest(
            "continue_final_message continues the last message, so add_generation_prompt must be "
            "false",
            param="continue_final_message",
        )
    effort = {"reasoning_effort": body.reasoning_effort} if body.reasoning_effort else {}
    reserved = {"tokenize", "return_dict", "return_tensors", "chat_template", "conversation"}
    extra = body.chat_template_kwargs or {}
    if named := (reserved | {"tools"}) & extra.keys():
        raise InvalidRequest(
            f"chat_template_kwargs must not set {min(named)}", param="chat_template_kwargs"
        )
    return {
        **effort,
        **extra,
        "add_generation_prompt": body.add_generation_prompt,
        "continue_final_message": body.continue_final_message,
    }


def _budget(body: ChatRequest, context: ServerContext) -> Budget:
    is_new = body.max_completion_tokens is not None
    return Budget(
        asked=body.max_completion_tokens if is_new else body.max_tokens,
        default=context.settings.default_max_tokens or None,
        param="max_completion_tokens" if is_new else "max_tokens",
        prompt_param="messages",
    )


def _logprobs(body: ChatRequest) -> int | None:
    if not body.logprobs:
        if body.top_logprobs:
            raise InvalidRequest("top_logprobs needs logprobs: true", param="top_logprobs")
        return None
    return body.top_logprobs or 0
