"""The load: a fixed number of streaming chat requests, a fixed number of them at a time.

While the clock runs the client only notes bytes and times; it reads them afterwards, because it
shares the machine with the server it measures.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from time import perf_counter
from typing import Any

import aiohttp
import orjson

from bench.serving import words
from bench.serving.answers import Answer, Load


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An OpenAI server: its base URL, its name of the model, and what else it is asked with."""

    url: str
    model: str
    streams: bool = True
    more: Mapping[str, Any] = field(default_factory=dict)

    def body(self, messages: Sequence[Mapping[str, str]], output_tokens: int) -> dict[str, Any]:
        """A greedy chat request."""
        return {
            "model": self.model,
            "messages": list(messages),
            "temperature": 0,
            "max_tokens": output_tokens,
            "stream": self.streams,
            **self.more,
        }


@dataclass(slots=True)
class Recording:
    """Raw bytes of one answer with the times at which they came."""

    message: str
    sent: float = 0.0
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    failure: str = ""


async def ask_all(endpoint: Endpoint, messages: Sequence[str], load: Load) -> list[Recording]:
    """Every message once, in order, some at a time; a failure is part of the result."""
    recordings = [Recording(message, failure=load.too_late) for message in messages]
    waiting = iter(recordings)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
    connector = aiohttp.TCPConnector(limit=0)

    async def ask_one_after_another(session: aiohttp.ClientSession) -> None:
        for recording in waiting:
            messages = [{"role": "user", "content": recording.message}]
            await record(session, endpoint, recording, endpoint.body(messages, load.output_tokens))

    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(load.limit_seconds), asyncio.TaskGroup() as group:
                for _ in range(load.concurrency):
                    group.create_task(ask_one_after_another(session))
    return recordings


async def record(
    session: aiohttp.ClientSession,
    endpoint: Endpoint,
    recording: Recording,
    body: Mapping[str, Any],
) -> None:
    """One request; what goes wrong is written into the recording."""
    recording.sent = perf_counter()
    try:
        async with session.post(f"{endpoint.url}/v1/chat/completions", json=body) as response:
            async for piece in response.content.iter_any():
                recording.pieces.append((perf_counter(), piece))
            is_good = response.status == HTTPStatus.OK
        recording.failure = "" if is_good else f"{response.status}: {_text(recording)[:300]}"
    except (aiohttp.ClientError, TimeoutError) as error:
        recording.failure = f"{type(error).__name__}: {error}"


def answer_of(recording: Recording, *, output_tokens: int) -> Answer:
    """Reads the events; an answer with another number of tokens than asked for is a failure."""
    answer = read(recording, words.token_ids)
    if answer.failure or len(answer.token_ids) == output_tokens:
        return answer
    sentence = (
        f"{len(answer.token_ids)} tokens instead of {output_tokens}: {_text(recording)[-300:]}"
    )
    return Answer(message=recording.message, token_ids=answer.token_ids, failure=sentence)


def read(recording: Recording, token_ids_of: Callable[[str], tuple[int, ...]]) -> Answer:
    """The events, or the one object of a server that does not stream."""
    if recording.failure:
        return Answer(message=recording.message, failure=recording.failure)
    try:
        parts = list(_parts(recording))
        token_ids = token_ids_of("".join(text for _, text in parts))
    except (ValueError, KeyError, IndexError) as error:
        return Answer(message=recording.message, failure=f"unreadable answer: {error!r}")
    arrivals = tuple(time - recording.sent for time, _ in parts)
    return Answer(
        message=recording.message,
        token_ids=token_ids,
        first_token_seconds=arrivals[0] if arrivals else 0.0,
        total_seconds=arrivals[-1] if arrivals else 0.0,
        arrivals=arrivals,
    )


def _parts(recording: Recording) -> Iterator[tuple[float, str]]:
    """Each piece of text with the time at which it came."""
    whole = b"".join(piece for _, piece in recording.pieces)
    if whole.startswith(b"{"):
        yield recording.pieces[-1][0], orjson.loads(whole)["choices"][0]["message"]["content"]
        return
    for time, event in _events(recording):
        if text := _content(event):
            yield time, text


def _events(recording: Recording) -> Iterator[tuple[float, dict[str, Any]]]:
    """Each server-sent event with the time at which its last byte came."""
    rest = b""
    for time, piece in recording.pieces:
        *complete, rest = (rest + piece).split(b"\n\n")
        for event in complete:
            data = event.removeprefix(b"data:").strip()
            if data and data != b"[DONE]" and event.startswith(b"data:"):
                yield time, orjson.loads(data)


def _content(event: dict[str, Any]) -> str:
    if "error" in event:
        raise ValueError(event["error"])
    return "".join(choice["delta"].get("content") or "" for choice in event["choices"])


def _text(recording: Recording) -> str:
    return b"".join(piece for _, piece in recording.pieces).decode(errors="replace")
