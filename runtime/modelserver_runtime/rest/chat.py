"""/v1/chat/completions."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response

from modelserver_runtime.engine.engine import Deltas
from modelserver_runtime.engine.output import Delta
from modelserver_runtime.engine.request import Ticket
from modelserver_runtime.identifiers import random_hex
from modelserver_runtime.models.served import ServedModel
from modelserver_runtime.rest.collecting import UsageCounter, usage_of
from modelserver_runtime.rest.context import Context, NeedsJson, ServerContext
from modelserver_runtime.rest.disconnect import until_disconnect
from modelserver_runtime.rest.logprobs import chat_logprobs
from modelserver_runtime.rest.priority import tier_served
from modelserver_runtime.rest.schemas.generation import (
    AnswerMessage,
    ChatChoice,
    ChatCompletion,
    ChatRequest,
)
from modelserver_runtime.rest.stream import Event, EventStream
from modelserver_runtime.rest.tools.pieces import (
    CallArguments,
    CallBegun,
    Piece,
    Reasoning,
    Text,
)
from modelserver_runtime.rest.turn import (
    AnswerProgress,
    Turn,
    WholeAnswer,
    collect_answers,
    prepare_turn,
)

_NO_CONTENT = b'"content":""'

router = APIRouter(tags=["OpenAI"], dependencies=[NeedsJson])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """A chat ready to be generated, and what its answer says about itself."""

    body: ChatRequest
    turn: Turn
    head: Mapping[str, Any]

    @property
    def includes_usage(self) -> bool:
        return bool(self.body.stream_options and self.body.stream_options.include_usage)


@router.post("/v1/chat/completions", response_model=ChatCompletion)
async def create_chat_completion(
    body: ChatRequest, request: Request, context: Context
) -> ChatCompletion | Response:
    ticket = context.ticket(tier=body.service_tier, priority=body.priority)
    model = await context.model(body.model, deadline=ticket.deadline)
    prepared = await _prepare(body, context, model, ticket)
    if body.stream:
        return EventStream(_events(prepared))
    answers = await until_disconnect(request.receive, collect_answers(prepared.turn))
    return _completion(prepared, answers)


async def _prepare(
    body: ChatRequest, context: ServerContext, model: ServedModel, ticket: Ticket
) -> _Prepared:
    turn = await prepare_turn(body, context, model.service.generation, ticket)
    return _Prepared(body=body, turn=turn, head=_head(body, context, model, ticket))


def _head(
    body: ChatRequest, context: ServerContext, model: ServedModel, ticket: Ticket
) -> Mapping[str, Any]:
    return {
        "id": f"chatcmpl-{random_hex(12)}",
        "created": int(context.wall_clock()),
        "model": body.model,
        "service_tier": tier_served(body.service_tier, ticket.priority),
        "system_fingerprint": model.fingerprint,
    }


def _completion(prepared: _Prepared, answers: Sequence[WholeAnswer]) -> ChatCompletion:
    completion_tokens = sum(answer.completion_tokens for answer in answers)
    cached_tokens = min(answer.cached_tokens for answer in answers)
    return ChatCompletion(
        **prepared.head,
        choices=[_choice(prepared, index, answer) for index, answer in enumerate(answers)],
        usage=usage_of(
            prepared.turn.prompt_tokens,
            completion_tokens,
            cached_tokens,
            accepted=sum(answer.accepted_prediction_tokens for answer in answers),
            rejected=sum(answer.rejected_prediction_tokens for answer in answers),
        ),
    )


def _choice(prepared: _Prepared, index: int, answer: WholeAnswer) -> ChatChoice:
    wanted = prepared.body.logprobs
    message = AnswerMessage(
        content=answer.text if answer.text or not answer.calls else None,
        reasoning_content=answer.reasoning or None,
        tool_calls=answer.calls or None,
    )
    return ChatChoice(
        index=index,
        message=message,
        logprobs=chat_logprobs(answer.tokens, prepared.turn.tokenizer) if wanted else None,
        finish_reason=answer.finish_reason,
    )


@asynccontextmanager
async def _events(prepared: _Prepared) -> AsyncGenerator[AsyncIterator[Event]]:
    turn = prepared.turn
    async with turn.engine.open(turn.requests, turn.ticket) as deltas:
        yield _chunks(prepared, deltas)


async def _chunks(prepared: _Prepared, deltas: Deltas) -> AsyncIterator[Event]:
    """Each choice begins with its role and ends with its finish reason; then usage, then [DONE]."""
    choices = len(prepared.turn.requests)
    counter = UsageCounter(prepared.turn.prompt_tokens, choices=choices, tries=choices)
    streams: dict[int, _ChoiceStream] = {}
    async for index, delta in deltas:
        counter.note(index, delta)
        if index not in streams:
            streams[index] = _ChoiceStream(prepared, index)
            yield _chunk(prepared, _delta_choice(index, {"role": "assistant", "content": ""}))
        for event in streams[index].events(delta):
            yield event
    if prepared.includes_usage:
        yield _chunk(prepared, None, counter.usage.model_dump())
    yield "[DONE]"


class _ChoiceStream:
    """The events of one choice.

    Most of them differ in their text only, so that the rest is made once: making each anew took
    longer than everything else between the model and the socket.
    """

    def __init__(self, prepared: _Prepared, index: int) -> None:
        self._prepared = prepared
        self._index = index
        self._progress = AnswerProgress(prepared.turn.make_reader())
        whole = orjson.dumps(_chunk(prepared, _delta_choice(index, {"content": ""})))
        # Quotes in values are escaped, so that this can only be the field.
        self._before, self._after = whole.split(_NO_CONTENT)

    def events(self, delta: Delta) -> Iterator[Event]:
        pieces = self._progress.pieces(delta)
        if delta.tokens:
            yield from self._scored(list(pieces), delta)
        else:
            yield from map(self._event, pieces)
        if delta.finish_reason:
            yield self._chunk({}, finish_reason=self._progress.finish_reason)

    def _event(self, piece: Piece) -> Event:
        if isinstance(piece, Text):
            return b'%b"content":%b%b' % (self._before, orjson.dumps(piece.text), self._after)
        return self._chunk(_delta_of(piece))

    def _scored(self, pieces: Sequence[Piece], delta: Delta) -> Iterator[Event]:
        """The log probabilities of a delta go with the first of its pieces."""
        first, *others = [_delta_of(piece) for piece in pieces] or [{"content": ""}]
        logprobs = chat_logprobs(delta.tokens, self._prepared.turn.tokenizer)
        entry = _delta_choice(self._index, first) | {"logprobs": logprobs.model_dump()}
        yield _chunk(self._prepared, entry)
        yield from map(self._chunk, others)

    def _chunk(self, delta: Mapping[str, Any], finish_reason: str | None = None) -> Event:
        return _chunk(self._prepared, _delta_choice(self._index, delta, finish_reason))


def _delta_of(piece: Piece) -> dict[str, Any]:
    match piece:
        case Text(text):
            return {"content": text}
        case Reasoning(text):
            return {"reasoning_content": text}
        case CallBegun(index=index, call_id=call_id, name=name):
            function = {"name": name, "arguments": ""}
            call = {"index": index, "id": call_id, "type": "function", "function": function}
            return {"tool_calls": [call]}
        case CallArguments(index=index, text=text):
            return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}


def _delta_choice(
    index: int, delta: Mapping[str, Any], finish_reason: str | None = None
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _chunk(
    prepared: _Prepared, entry: Mapping[str, Any] | None, usage: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    chunk = {
        "object": "chat.completion.chunk",
        **prepared.head,
        "choices": [] if entry is None else [entry],
    }
    if prepared.includes_usage:
        chunk["usage"] = usage
    return chunk
