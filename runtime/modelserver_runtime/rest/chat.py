"""/v1/chat/completions."""

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from modelserver_runtime.backends.base import Tokenizer
from modelserver_runtime.engine.engine import Deltas, GenerationEngine
from modelserver_runtime.engine.output import Delta, TextRules
from modelserver_runtime.engine.request import GenerationRequest, Ticket
from modelserver_runtime.errors import InvalidRequest
from modelserver_runtime.rest.collecting import Collected, UsageCounter, collect, usage_of
from modelserver_runtime.rest.context import Context, NeedsJson, ServerContext
from modelserver_runtime.rest.disconnect import until_disconnect
from modelserver_runtime.rest.logprobs import chat_logprobs
from modelserver_runtime.rest.sampling import Budget, choice, max_tokens, sampling_of
from modelserver_runtime.rest.schemas.generation import (
    AnswerMessage,
    ChatChoice,
    ChatCompletion,
    ChatRequest,
    Message,
)
from modelserver_runtime.rest.stream import Event, EventStream

router = APIRouter(tags=["OpenAI"], dependencies=[NeedsJson])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """A chat ready to be generated, and what its answer says about itself."""

    body: ChatRequest
    engine: GenerationEngine
    ticket: Ticket
    requests: Sequence[GenerationRequest]
    prompt_tokens: int
    head: Mapping[str, Any]

    @property
    def tokenizer(self) -> Tokenizer:
        return self.engine.backend.tokenizer

    @property
    def includes_usage(self) -> bool:
        return bool(self.body.stream_options and self.body.stream_options.include_usage)


@router.post("/v1/chat/completions", response_model=ChatCompletion)
async def create_chat_completion(
    body: ChatRequest, request: Request, context: Context
) -> ChatCompletion | Response:
    ticket = context.ticket()
    context.require_model(body.model)
    prepared = await _prepare(body, context, ticket)
    if body.stream:
        return EventStream(_events(prepared))
    answers = await until_disconnect(
        request.receive, collect(prepared.engine, prepared.requests, ticket)
    )
    return _completion(prepared, answers)


async def _prepare(body: ChatRequest, context: ServerContext, ticket: Ticket) -> _Prepared:
    engine = context.service.generation
    backend = engine.backend
    prompt = await context.in_thread(
        backend.tokenizer.encode_chat, _messages(body.messages), _template_options(body)
    )
    sampling = replace(
        sampling_of(body, backend.defaults, backend.limits),
        max_tokens=max_tokens(_budget(body, context), len(prompt), backend.limits),
        logprobs=_logprobs(body),
    )
    rules = TextRules(
        stop_strings=tuple(body.stop or ()), skip_special_tokens=body.skip_special_tokens
    )
    requests = [
        GenerationRequest(prompt_token_ids=prompt, sampling=choice(sampling, index), rules=rules)
        for index in range(body.n or 1)
    ]
    return _Prepared(
        body=body,
        engine=engine,
        ticket=ticket,
        requests=requests,
        prompt_tokens=len(prompt),
        head=_head(body, context),
    )


def _head(body: ChatRequest, context: ServerContext) -> Mapping[str, Any]:
    return {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "created": int(context.wall_clock()),
        "model": body.model,
        "system_fingerprint": context.fingerprint,
    }


def _messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Templates know no developer; it is OpenAI's newer word for system."""
    return [
        {
            "role": "system" if message.role == "developer" else message.role,
            "content": message.content,
        }
        for message in messages
    ]


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
    if named := reserved & extra.keys():
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


def _completion(prepared: _Prepared, answers: Sequence[Collected]) -> ChatCompletion:
    return ChatCompletion(
        **prepared.head,
        choices=[_choice(prepared, index, answer) for index, answer in enumerate(answers)],
        usage=usage_of(prepared.prompt_tokens, sum(answer.completion_tokens for answer in answers)),
    )


def _choice(prepared: _Prepared, index: int, answer: Collected) -> ChatChoice:
    wanted = prepared.body.logprobs
    return ChatChoice(
        index=index,
        message=AnswerMessage(content=answer.text),
        logprobs=chat_logprobs(answer.tokens, prepared.tokenizer) if wanted else None,
        finish_reason=answer.finish_reason.value,
    )


@asynccontextmanager
async def _events(prepared: _Prepared) -> AsyncGenerator[AsyncIterator[Event]]:
    async with prepared.engine.open(prepared.requests, prepared.ticket) as deltas:
        yield _chunks(prepared, deltas)


async def _chunks(prepared: _Prepared, deltas: Deltas) -> AsyncIterator[Event]:
    """Each choice begins with its role and ends with its finish reason; then usage, then [DONE]."""
    counter = UsageCounter(prepared.prompt_tokens)
    begun: set[int] = set()
    async for index, delta in deltas:
        counter.note(index, delta)
        if index not in begun:
            begun.add(index)
            yield _chunk(prepared, _delta_choice(index, {"role": "assistant", "content": ""}))
        if delta.text or delta.tokens:
            yield _chunk(prepared, _content_choice(prepared, index, delta))
        if delta.finish_reason:
            yield _chunk(prepared, _delta_choice(index, {}, delta.finish_reason.value))
    if prepared.includes_usage:
        yield _chunk(prepared, None, counter.usage.model_dump())
    yield "[DONE]"


def _content_choice(prepared: _Prepared, index: int, delta: Delta) -> dict[str, Any]:
    entry = _delta_choice(index, {"content": delta.text})
    if prepared.body.logprobs:
        entry["logprobs"] = chat_logprobs(delta.tokens, prepared.tokenizer).model_dump()
    return entry


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
