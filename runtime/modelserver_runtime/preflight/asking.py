"""Asks a server the cases, one after the other."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import httpx2

from modelserver_runtime.errors import InvalidConfiguration
from modelserver_runtime.preflight.cases import Case, GoldenSet
from modelserver_runtime.preflight.judging import Answer, complaint
from modelserver_runtime.preflight.result import Outcome

type Clock = Callable[[], float]

# A Service learns of its pods' readiness some seconds after they have it.
_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 1.0
_LONGEST_ATTEMPT_SECONDS = 10.0
# An event loop may be that much early; nobody answers in what would be left.
_LEAST_SECONDS = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """`timeout_seconds` is for all cases together, from when the server is there."""

    url: str
    golden_set: GoldenSet
    timeout_seconds: float
    key: str = field(default="", repr=False)


async def examine(
    examination: Examination, clock: Clock, on_outcome: Callable[[Outcome], None]
) -> tuple[Outcome, ...]:
    """Of every case, also of those for which no time was left.

    One at a time, so that no case is slow because of another.
    """
    headers = {"authorization": f"Bearer {examination.key}"} if examination.key else {}
    patience = min(examination.timeout_seconds, _PATIENCE_SECONDS)
    outcomes: list[Outcome] = []
    async with httpx2.AsyncClient(
        base_url=examination.url, headers=headers, timeout=None, trust_env=False
    ) as client:
        await _wait_for_anybody(client, clock() + patience, clock)
        end = clock() + examination.timeout_seconds
        for case in examination.golden_set.cases:
            outcome = await _try(client, case, end, clock)
            on_outcome(outcome)
            outcomes.append(outcome)
    return tuple(outcomes)


async def _wait_for_anybody(client: httpx2.AsyncClient, end: float, clock: Clock) -> None:
    """Whatever the answer is, it comes from somebody."""
    while True:
        try:
            async with asyncio.timeout(_LONGEST_ATTEMPT_SECONDS):
                await client.get("/readyz")
        except (httpx2.TransportError, TimeoutError) as error:
            if clock() + _PAUSE_SECONDS >= end:
                raise InvalidConfiguration(
                    f"Nobody answers at {client.base_url}: {_said(error)}",
                    hint="Name a server with --url, and look whether its pods are ready.",
                ) from error
            await _pause()
        else:
            return


async def _pause() -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_PAUSE_SECONDS):
            await asyncio.Event().wait()


async def _try(client: httpx2.AsyncClient, case: Case, end: float, clock: Clock) -> Outcome:
    began = clock()
    if end - began < _LEAST_SECONDS:
        return Outcome(name=case.name, complaint="it was not asked: the time for all was over")
    try:
        async with asyncio.timeout(end - began):
            response = await client.post(case.path, json=case.request)
    except TimeoutError:
        sentence = f"there was no answer after {clock() - began:.0f} s, when the time was over"
        return Outcome(name=case.name, complaint=sentence)
    except httpx2.TransportError as error:
        return Outcome(name=case.name, complaint=f"there was no answer: {_said(error)}")
    milliseconds = (clock() - began) * 1000
    answer = Answer(
        status=response.status_code, content=response.content, milliseconds=milliseconds
    )
    found = complaint(case.expect, answer)
    return Outcome(name=case.name, complaint=found, milliseconds=milliseconds)


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
