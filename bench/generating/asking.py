"""The load: questions of different lengths, some at a time or when they arrive.

As in `bench.serving.client`, bytes and times are noted while the clock runs, and read afterwards.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from time import perf_counter

import aiohttp

from bench.generating.workload import Question
from bench.serving.answers import Answer
from bench.serving.client import Endpoint, Recording, read, record

type Reader = Callable[[str], tuple[int, ...]]


async def ask(
    endpoint: Endpoint,
    questions: Sequence[Question],
    *,
    concurrency: int,
    limit_seconds: float,
    reader: Reader,
) -> list[Answer]:
    """One answer for every question, in order; 0 at a time: each when it arrives."""
    late = f"not answered within {limit_seconds:.0f} s"
    recordings = [Recording(question.message, failure=late) for question in questions]
    waiting = iter(zip(questions, recordings, strict=True))
    started = perf_counter()
    async with session() as client:

        async def one(question: Question, recording: Recording) -> None:
            messages = [{"role": "user", "content": question.message}]
            body = endpoint.body(messages, question.output_tokens)
            await record(client, endpoint, recording, body)

        async def one_after_another() -> None:
            for question, recording in waiting:
                await one(question, recording)

        async def at_its_time(question: Question, recording: Recording) -> None:
            await asyncio.sleep(started + question.at_seconds - perf_counter())
            await one(question, recording)

        works = (
            [one_after_another() for _ in range(concurrency)]
            if concurrency
            else [at_its_time(*both) for both in waiting]
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_seconds), asyncio.TaskGroup() as group:
                for work in works:
                    group.create_task(work)
    return [read(recording, reader) for recording in recordings]


def session() -> aiohttp.ClientSession:
    """A connection for each request, because llama.cpp closes them after streams.

    Only connecting has a time limit.
    """
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    return aiohttp.ClientSession(timeout=timeout, connector=connector)
