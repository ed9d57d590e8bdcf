"""What HTTP, checks and the engine cost by themselves: the server's CPU time with a fake model.

Server and load keep to a core of their own. Requests per core are requests per second of CPU time
that the server used, so that no waiting counts for it or against it.
"""

import asyncio
import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from bench.fronting.parts import Round, Say, at_least, at_most, middle
from bench.fronting.serving import Served, process
from bench.fronting.wire import Tally, ask_many, prepared
from bench.serving.processes import cpu_seconds

_MODEL = "instant"
_ROUTE = "/v1/chat/completions"
_CONNECTIONS = 32
_REQUESTS = 12_000
_STREAMS = 256
_TOKENS_OF_STREAM = 500
_WARM_UP = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cores:
    server: int
    load: int | None


class Overhead:
    bounds: Mapping[str, Any] = {
        "requests_per_second_per_core_fake_backend": at_least(3000),
        "microseconds_per_streamed_token": at_most(10),
    }

    def __init__(self) -> None:
        self._cores = _cores()

    async def measure(self, rounds: int, say: Say) -> Sequence[Round]:
        async with contextlib.AsyncExitStack() as stack:
            start = stack.enter_async_context
            plain = await start(self._server("plain", cache_max_entries=0))
            cached = await start(self._server("cached"))
            logged = await start(self._server("logged", cache_max_entries=0, log_level="info"))
            stack.enter_context(pinned(self._cores.load))
            servers = {"plain": plain, "cached": cached, "logged": logged}
            for served in servers.values():
                await _use(served, _short_chat(), count=_WARM_UP, connections=_CONNECTIONS)
            return [await _round(servers, number, say) for number in range(1, rounds + 1)]

    def _server(
        self, name: str, **settings: object
    ) -> contextlib.AbstractAsyncContextManager[Served]:
        arguments = ["-m", "bench.fronting.fake_server", str(self._cores.server)]
        # Waiting is not what is measured: more streams than usual run at the same time.
        common = {"served_name": _MODEL, "log_level": "warning", "max_running_sequences": _STREAMS}
        return process(f"server-fake-{name}", arguments, {**common, **settings}, model=_MODEL)

    def figures(self, rounds: Sequence[Round]) -> dict[str, float]:
        return {
            "requests_per_second_per_core_fake_backend": middle(rounds, "plain_per_cpu_second"),
            "requests_per_second_fake_backend": middle(rounds, "plain_per_second"),
            "requests_per_second_per_core_cache_hit": middle(rounds, "cached_per_cpu_second"),
            "requests_per_second_per_core_with_access_log": middle(rounds, "logged_per_cpu_second"),
            "microseconds_per_streamed_token": middle(rounds, "stream_microseconds_per_token"),
            "streamed_tokens_per_second_fake_backend": middle(rounds, "stream_tokens_per_second"),
            "streamed_tokens_per_event_fake_backend": middle(rounds, "stream_tokens_per_event"),
        }

    def remarks(self, _: Mapping[str, float]) -> Iterable[str]:
        yield (
            f"Overhead: chats answered with one token over {_CONNECTIONS} connections, and "
            f"{_STREAMS} streams of {_TOKENS_OF_STREAM} tokens, of which those that wait for the "
            "same socket go out in one event; the real server with a model that answers at once, "
            "on a core of its own; CPU time of the whole process, the model's thread included. Its "
            "log is off, but for the figure with the access log, which goes to a file."
        )


def _cores() -> _Cores:
    first, *others = sorted(os.sched_getaffinity(0))
    return _Cores(server=first, load=others[0] if others else None)


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """This process keeps to one core meanwhile, if there is one that the server has not."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _short_chat(**more: Any) -> dict[str, Any]:
    message = {"role": "user", "content": "How many words does an answer need?"}
    return {"model": _MODEL, "messages": [message], "max_tokens": 1, "temperature": 0, **more}


async def _round(servers: Mapping[str, Served], number: int, say: Say) -> Round:
    """The servers in another order each time."""
    found: Round = {"part": "overhead", "round": number}
    names = list(servers)
    shift = number % len(names)
    for name in names[shift:] + names[:shift]:
        spent = await _use(servers[name], _short_chat(), count=_REQUESTS, connections=_CONNECTIONS)
        found[f"{name}_per_cpu_second"] = spent.tally.answers / spent.cpu_seconds
        found[f"{name}_per_second"] = spent.tally.answers / spent.seconds
    found |= await _streams(servers["plain"])
    say(
        f"overhead, round {number}: {found['plain_per_cpu_second']:.0f} requests per CPU second, "
        f"{found['stream_microseconds_per_token']:.1f} us per streamed token"
    )
    return found


async def _streams(served: Served) -> Round:
    body = _short_chat(stream=True, max_tokens=_TOKENS_OF_STREAM)
    spent = await _use(served, body, count=_STREAMS, connections=_STREAMS)
    tokens = spent.tally.words
    return {
        "stream_tokens": tokens,
        "stream_microseconds_per_token": 1e6 * spent.cpu_seconds / tokens,
        "stream_tokens_per_second": tokens / spent.seconds,
        # Each stream has two more events: its role, and its finish reason.
        "stream_tokens_per_event": tokens / (spent.tally.events - 2 * spent.tally.answers),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spent:
    tally: Tally
    cpu_seconds: float
    seconds: float


async def _use(served: Served, body: Mapping[str, Any], *, count: int, connections: int) -> _Spent:
    host, port = served.address
    request = prepared(_ROUTE, body, f"{host}:{port}")
    cpu, began = cpu_seconds(served.pid), perf_counter()
    tally = await ask_many((host, port), request, count=count, connections=connections)
    seconds = perf_counter() - began
    await asyncio.sleep(0)  # what is written after the last answer belongs to it
    return _Spent(tally=tally, cpu_seconds=cpu_seconds(served.pid) - cpu, seconds=seconds)
