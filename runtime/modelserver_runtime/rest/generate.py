"""/generate: text in, text out, without roles or choices."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from fastapi import APIRouter, Request
from fastapi.responses import Response

from modelserver_runtime.backends.base import GenerationBackend
from modelserver_runtime.engine.answering import Generator
from modelserver_runtime.engine.engine import Deltas
from modelserver_runtime.engine.output import TextRules
from modelserver_runtime.engine.request import GenerationRequest, Ticket
from modelserver_runtime.errors import InvalidRequest
from modelserver_runtime.rest.collecting import collect
from modelserver_runtime.rest.context import Context, NeedsJson, ServerContext
from modelserver_runtime.rest.disconnect import until_disconnect
from modelserver_runtime.rest.sampling import Budget, max_tokens, sampling_of_generate
from modelserver_runtime.rest.schemas.generation import (
    GenerateAnswer,
    GenerateParameters,
    GenerateRequest,
)
from modelserver_runtime.rest.stream import Event, EventStream

router = APIRouter(tags=["Tasks"], dependencies=[NeedsJson])


@router.post("/generate", response_model=GenerateAnswer)
async def generate(
    body: GenerateRequest, request: Request, context: Context
) -> GenerateAnswer | Response:
    ticket = context.ticket()
    model = await context.model(body.model, deadline=ticket.deadline)
    engine = model.service.generation
    prepared = await generation_of_text(body.inputs, body.parameters, context, engine)
    if body.stream:
        return EventStream(_events(engine, prepared, ticket))
    [answer] = await until_disconnect(request.receive, collect(engine, [prepared], ticket))
    prefix = body.inputs if body.parameters.return_full_text else ""
    return GenerateAnswer(
        generated_text=prefix + answer.text,
        finish_reason=answer.finish_reason.value,
        prompt_tokens=len(prepared.prompt_token_ids),
        generated_tokens=answer.completion_tokens,
    )


async def generation_of_text(
    text: str, parameters: GenerateParameters, context: ServerContext, engine: Generator
) -> GenerationRequest:
    prompt = await context.in_thread(engine.backend.tokenizer.encode, text)
    if not prompt:
        raise InvalidRequest("inputs is empty; send at least one token", param="inputs")
    return generation_of(prompt, parameters, engine.backend)


def generation_of(
    prompt: tuple[int, ...], parameters: GenerateParameters, backend: GenerationBackend
) -> GenerationRequest:
    budget = Budget(
        asked=parameters.max_new_tokens,
        default=None,
        param="parameters.max_new_tokens",
        prompt_param="inputs",
    )
    sampling = sampling_of_generate(parameters, backend.defaults)
    longest = max_tokens(budget, len(prompt), backend.limits)
    return GenerationRequest(
        prompt_token_ids=prompt,
        sampling=replace(sampling, max_tokens=longest),
        rules=TextRules(stop_strings=tuple(parameters.stop), context=prompt),
    )


@asynccontextmanager
async def _events(
    engine: Generator, request: GenerationRequest, ticket: Ticket
) -> AsyncGenerator[AsyncIterator[Event]]:
    async with engine.open([request], ticket) as deltas:
        yield _pieces(deltas)


async def _pieces(deltas: Deltas) -> AsyncIterator[Event]:
    async for _, delta in deltas:
        yield {
            "text": delta.text,
            "generated_tokens": delta.completion_tokens,
            "finish_reason": delta.finish_reason,
        }
    yield "[DONE]"
