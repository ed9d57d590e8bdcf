"""Asks a server many times at once, and notes when each piece of each answer came."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import httpx2
import orjson

from modelserver_runtime.errors import InvalidConfiguration

type Clock = Callable[[], float]

_DATA = "data: "
_DONE = "[DONE]"
# Longer than any answer takes; a server that hangs is a finding, not a reason to wait for ever.
_TIMEOUT_SECONDS = 600.0
_FIRST_ERROR_STATUS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`requests` in all, `concurrency` of them at a time.

    Every prompt is different, so that no stored answer is given, unless `same_prompt`.
    """

    url: str
    model: str
    requests: int
    concurrency: int
    max_tokens: int
    prompt_words: int
    same_prompt: bool
    key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Times in seconds since the request; `failure` says why there is no whole answer."""

    pieces: tuple[float, ...] = ()
    seconds: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    failure: str = ""

    @property
    def gaps(self) -> Iterator[float]:
        return (later - earlier for earlier, later in pairwise(self.pieces))


async def run(
    plan: Plan, clock: Clock, on_answer: Callable[[Answer], None]
) -> tuple[list[Answer], float]:
    """The answers, and how long all of them took. One request before them warms the server up."""
    limits = httpx2.Limits(max_connections=plan.concurrency)
    headers = {"authorization": f"Bearer {plan.key}"} if plan.key else {}
    async with httpx2.AsyncClient(
        base_url=plan.url, headers=headers, limits=limits, timeout=_TIMEOUT_SECONDS
    ) as client:
        plan = await _with_model(client, plan)
        await _ask(client, plan, -1, clock)
        began = clock()
        numbers = iter(range(plan.requests))
        answers: list[Answer] = []

        async def worker() -> None:
            for number in numbers:
                answer = await _ask(client, plan, number, clock)
                answers.append(answer)
                on_answer(answer)

        async with asyncio.TaskGroup() as group:
            for _ in range(plan.concurrency):
                group.create_task(worker())
        return answers, clock() - began


async def models_of(plan: Plan) -> Mapping[str, Any]:
    """What the server says of its models; empty if it has no such route."""
    headers = {"authorization": f"Bearer {plan.key}"} if plan.key else {}
    async with httpx2.AsyncClient(base_url=plan.url, headers=headers) as client:
        answer = await client.get("/models")
        if answer.status_code >= _FIRST_ERROR_STATUS:
            return {}
        said: dict[str, Any] = answer.json()
        return said


async def _with_model(client: httpx2.AsyncClient, plan: Plan) -> Plan:
    """The first model of the server, unless one was named; also whether anybody is there."""
    try:
        answer = await client.get("/v1/models")
    except httpx2.HTTPError as error:
        raise InvalidConfiguration(
            f"Nobody answers at {plan.url}: {error}", hint="Name a server with --url."
        ) from error
    if answer.status_code >= _FIRST_ERROR_STATUS:
        raise InvalidConfiguration(
            f"{plan.url} answers {answer.status_code}: {_reason(answer.content)}",
            hint="A server with keys needs one in the variable OPENAI_API_KEY.",
        )
    names = [card["id"] for card in answer.json()["data"]]
    return plan if plan.model else replace(plan, model=names[0])


def _body(plan: Plan, number: int) -> dict[str, Any]:
    first = "the" if plan.same_prompt else f"{number}"
    words = [first, *("word" for _ in range(plan.prompt_words - 1))]
    return {
        "model": plan.model,
        "prompt": " ".join(words),
        "max_tokens": plan.max_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def _ask(client: httpx2.AsyncClient, plan: Plan, number: int, clock: Clock) -> Answer:
    began = clock()
    try:
        async with client.stream("POST", "/v1/completions", json=_body(plan, number)) as response:
            if response.status_code >= _FIRST_ERROR_STATUS:
                reason = _reason(await response.aread())
                return Answer(failure=f"{response.status_code}: {reason}")
            return await _read(response.aiter_lines(), began, clock)
    except httpx2.HTTPError as error:
        return Answer(failure=f"{type(error).__name__}: {error}")


async def _read(lines: AsyncIterator[str], began: float, clock: Clock) -> Answer:
    pieces: list[float] = []
    usage: dict[str, Any] = {}
    async for line in lines:
        text = line.removeprefix(_DATA)
        if text == line:
            continue
        if text == _DONE:
            return Answer(
                pieces=tuple(pieces),
                seconds=clock() - began,
                prompt_tokens=usage.get("prompt_tokens", 0),
                cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0),
                generated_tokens=usage.get("completion_tokens", 0),
            )
        event = orjson.loads(text)
        if "error" in event:
            return Answer(failure=str(event["error"].get("message")))
        usage = event.get("usage") or usage
        if event.get("choices"):
            pieces.append(clock() - began)
    return Answer(failure="the stream ended without [DONE]")


def _reason(content: bytes) -> str:
    try:
        return str(orjson.loads(content)["error"]["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return content[:200].decode(errors="replace")
