"""/v1/completions."""

import math
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import batched
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from modelserver_runtime.backends.base import Grammar, SamplingParameters, Tokenizer
from modelserver_runtime.engine.answering import Generator
from modelserver_runtime.engine.engine import Deltas
from modelserver_runtime.engine.output import Delta, TextRules
from modelserver_runtime.engine.request import GenerationRequest, Ticket
from modelserver_runtime.errors import InvalidRequest
from modelserver_runtime.identifiers import random_hex
from modelserver_runtime.models.served import ServedModel
from modelserver_runtime.rest.collecting import (
    Collected,
    UsageCounter,
    cached_prompt_tokens,
    collect,
    usage_of,
)
from modelserver_runtime.rest.context import Context, NeedsJson, ServerContext
from modelserver_runtime.rest.disconnect import until_disconnect
from modelserver_runtime.rest.grammars import compile_grammar, format_of, require_compatible
from modelserver_runtime.rest.logprobs import completion_logprobs, joined, prompt_logprobs
from modelserver_runtime.rest.priority import tier_served
from modelserver_runtime.rest.sampling import Budget, choice, max_tokens, sampling_of
from modelserver_runtime.rest.schemas.generation import (
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    CompletionRequest,
)
from modelserver_runtime.rest.stream import Event, EventStream

router = APIRouter(tags=["OpenAI"], dependencies=[NeedsJson])

# OpenAI's default for this route.
_DEFAULT_MAX_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prompt:
    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """`choices` holds the prompt of each try: some of the first prompt, then of the second, ...

    Of the `tries` of each prompt the answer has n: all, or with `best_of` the likeliest.
    """

    body: CompletionRequest
    engine: Generator
    ticket: Ticket
    choices: Sequence[_Prompt]
    tries: int
    requests: Sequence[GenerationRequest]
    prompt_tokens: int
    head: Mapping[str, Any]

    @property
    def tokenizer(self) -> Tokenizer:
        return self.engine.backend.tokenizer

    @property
    def includes_usage(self) -> bool:
        return bool(self.body.stream_options and self.body.stream_options.include_usage)


@router.post("/v1/completions", response_model=Completion)
async def create_completion(
    body: CompletionRequest, request: Request, context: Context
) -> Completion | Response:
    ticket = context.ticket(tier=body.service_tier, priority=body.priority)
    context.require_few(len(body.prompt), "prompt")
    _require_consistent(body)
    model = await context.model(body.model, deadline=ticket.deadline)
    prepared = await _prepare(body, context, model, ticket)
    if body.stream:
        return EventStream(_events(prepared))
    answers = await until_disconnect(
        request.receive, collect(prepared.engine, prepared.requests, ticket)
    )
    return _completion(prepared, answers)


def _require_consistent(body: CompletionRequest) -> None:
    wanted = body.n or 1
    if body.best_of is not None and body.best_of < wanted:
        raise InvalidRequest(
            f"best_of is {body.best_of} and n is {wanted}; best_of must not be less than n",
            param="best_of",
        )
    if body.best_of is not None and body.best_of > wanted and body.stream:
        raise InvalidRequest(
            "best_of chooses among whole answers, which cannot be streamed; leave one of best_of "
            "and stream away",
            param="best_of",
        )
    if body.max_tokens == 0 and not body.echo:
        raise InvalidRequest("max_tokens 0 makes sense only with echo: true", param="max_tokens")


async def _prepare(
    body: CompletionRequest, context: ServerContext, model: ServedModel, ticket: Ticket
) -> _Prepared:
    engine = model.service.generation
    prompts = await context.in_thread(_prompts, body, engine)
    tries = body.best_of or body.n or 1
    choices = [prompt for prompt in prompts for _ in range(tries)]
    sampling = replace(
        sampling_of(body, engine.backend.defaults, engine.backend.limits),
        logprobs=0 if body.logprobs is None and tries > (body.n or 1) else body.logprobs,
        prompt_logprobs=body.logprobs if body.echo else None,
        grammar=await _grammar(body, engine),
    )
    requests = [
        _request(body, engine, prompt, choice(sampling, index % tries))
        for index, prompt in enumerate(choices)
    ]
    return _Prepared(
        body=body,
        engine=engine,
        ticket=ticket,
        choices=choices,
        tries=tries,
        requests=requests,
        prompt_tokens=sum(len(prompt.token_ids) for prompt in prompts),
        head=_head(body, context, model, ticket),
    )


async def _grammar(body: CompletionRequest, engine: Generator) -> Grammar | None:
    grammar, param = format_of(body)
    if grammar is not None:
        require_compatible(body, param)
        await compile_grammar(engine.backend.grammars, grammar, param)
    return grammar


def _prompts(body: CompletionRequest, engine: Generator) -> list[_Prompt]:
    return [
        _prompt(body, prompt, engine, f"prompt.{index}") for index, prompt in enumerate(body.prompt)
    ]


def _prompt(
    body: CompletionRequest, prompt: str | list[int], engine: Generator, param: str
) -> _Prompt:
    tokenizer, vocabulary = engine.backend.tokenizer, engine.backend.limits.vocabulary_size
    if isinstance(prompt, str):
        token_ids = tokenizer.encode(prompt, add_special_tokens=body.add_special_tokens)
        if not token_ids:
            raise InvalidRequest("The prompt is empty; send at least one token", param=param)
        return _Prompt(text=prompt, token_ids=token_ids)
    unknown = [token_id for token_id in prompt if not 0 <= token_id < vocabulary]
    if unknown:
        raise InvalidRequest(
            f"The prompt names token {unknown[0]}, and the model has {vocabulary}", param=param
        )
    text = tokenizer.decode(prompt, skip_special_tokens=False) if body.echo else ""
    return _Prompt(text=text, token_ids=tuple(prompt))


def _request(
    body: CompletionRequest,
    engine: Generator,
    prompt: _Prompt,
    sampling: SamplingParameters,
) -> GenerationRequest:
    budget = Budget(asked=body.max_tokens, default=_DEFAULT_MAX_TOKENS, prompt_param="prompt")
    longest = max_tokens(budget, len(prompt.token_ids), engine.backend.limits)
    return GenerationRequest(
        prompt_token_ids=prompt.token_ids,
        sampling=replace(sampling, max_tokens=longest),
        rules=TextRules(
            stop_strings=tuple(body.stop or ()),
            skip_special_tokens=body.skip_special_tokens,
            context=prompt.token_ids,
        ),
        cache_salt=body.cache_salt,
    )


def _head(
    body: CompletionRequest, context: ServerContext, model: ServedModel, ticket: Ticket
) -> Mapping[str, Any]:
    return {
        "id": f"cmpl-{random_hex(12)}",
        "object": "text_completion",
        "created": int(context.wall_clock()),
        "model": body.model,
        "service_tier": tier_served(body.service_tier, ticket.priority),
        "system_fingerprint": model.fingerprint,
    }


def _completion(prepared: _Prepared, answers: Sequence[Collected]) -> Completion:
    kept = _kept(answers, prepared.tries, prepared.body.n or 1)
    return Completion(
        **prepared.head,
        choices=[
            _choice(prepared, prepared.choices[tried], index, answers[tried])
            for index, tried in enumerate(kept)
        ],
        usage=usage_of(
            prepared.prompt_tokens,
            sum(answer.completion_tokens for answer in answers),
            cached_prompt_tokens((answer.cached_tokens for answer in answers), prepared.tries),
        ),
    )


def _kept(answers: Sequence[Collected], tries: int, wanted: int) -> list[int]:
    """The indices of the answers to send; the likeliest first where there is a choice."""
    if tries == wanted:
        return list(range(len(answers)))
    groups = batched(range(len(answers)), tries, strict=True)
    ranked = (sorted(group, key=lambda index: -_likelihood(answers[index])) for group in groups)
    return [index for group in ranked for index in group[:wanted]]


def _likelihood(answer: Collected) -> float:
    """Mean log probability of a token, so that long answers have the chances of short ones."""
    logprobs = [token.logprobs.logprob for token in answer.tokens]
    return sum(logprobs) / len(logprobs) if logprobs else -math.inf


def _choice(
    prepared: _Prepared, prompt: _Prompt, index: int, answer: Collected
) -> CompletionChoice:
    echoed = prompt.text if prepared.body.echo else ""
    return CompletionChoice(
        index=index,
        text=echoed + answer.text,
        logprobs=_logprobs(prepared, prompt, answer),
        finish_reason=answer.finish_reason.value,
    )


def _logprobs(prepared: _Prepared, prompt: _Prompt, answer: Collected) -> CompletionLogprobs | None:
    if prepared.body.logprobs is None:
        return None
    if not prepared.body.echo:
        return completion_logprobs(answer.tokens, prepared.tokenizer, offset=0)
    of_prompt = prompt_logprobs(prompt.token_ids, answer.prompt_logprobs, prepared.tokenizer)
    of_answer = completion_logprobs(answer.tokens, prepared.tokenizer, offset=len(prompt.text))
    return joined(of_prompt, of_answer)


@asynccontextmanager
async def _events(prepared: _Prepared) -> AsyncGenerator[AsyncIterator[Event]]:
    async with prepared.engine.open(prepared.requests, prepared.ticket) as deltas:
        yield _chunks(prepared, deltas)


async def _chunks(prepared: _Prepared, deltas: Deltas) -> AsyncIterator[Event]:
    counter = UsageCounter(
        prepared.prompt_tokens, choices=len(prepared.requests), tries=prepared.tries
    )
    begun: set[int] = set()
    async for index, delta in deltas:
        counter.note(index, delta)
        is_first = index not in begun
        begun.add(index)
        if delta.text or delta.tokens or delta.finish_reason or (is_first and prepared.body.echo):
            yield _chunk(prepared, _stream_choice(prepared, index, delta, is_first=is_first))
    if prepared.includes_usage:
        yield _chunk(prepared, None, counter.usage.model_dump())
    yield "[DONE]"


def _stream_choice(
    prepared: _Prepared, index: int, delta: Delta, *, is_first: bool
) -> dict[str, Any]:
    """The first chunk of a choice also brings the prompt, where it is to be echoed."""
    prompt = prepared.choices[index]
    part = Collected()
    part.add(delta)
    echoes = is_first and prepared.body.echo
    logprobs: CompletionLogprobs | None = None
    if echoes:
        logprobs = _logprobs(prepared, prompt, part)
    elif prepared.body.logprobs is not None:
        offset = len(prompt.text) if prepared.body.echo else 0
        logprobs = completion_logprobs(part.tokens, prepared.tokenizer, offset=offset)
    return {
        "index": index,
        "text": prompt.text + part.text if echoes else part.text,
        "logprobs": logprobs and logprobs.model_dump(),
        "finish_reason": delta.finish_reason,
    }


def _chunk(
    prepared: _Prepared, entry: Mapping[str, Any] | None, usage: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    chunk = {**prepared.head, "choices": [] if entry is None else [entry]}
    if prepared.includes_usage:
        chunk["usage"] = usage
    return chunk
