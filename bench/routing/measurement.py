"""Requests straight to an upstream and through the router: time, CPU time and memory."""

import asyncio
import contextlib
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from time import perf_counter

from bench.fronting.asking import Body
from bench.fronting.overhead import pinned
from bench.fronting.parts import Round
from bench.fronting.serving import ServerFailed
from bench.fronting.wire import ask_many, prepared
from bench.serving.model_folder import cache_folder
from bench.serving.processes import cpu_seconds, resident_megabytes, running

_ROUTE = "/v1/chat/completions"
_STABLE, _CANARY = "a1b2c3d4", "d4e5f6a7"
_START_SECONDS = 60.0
_UPSTREAM_READY = re.compile(r"^Ready: upstream, try (http://\S+)/docs$", re.MULTILINE)
_ROUTER_READY = re.compile(r"^Listening on (http://[^;\s]+);", re.MULTILINE)
_CHAT: Body = {"model": "m", "messages": [{"role": "user", "content": "How many words?"}]}
_CONNECTIONS = 32
_REQUESTS = 20_000
_TIMED_REQUESTS = 4_000
_STREAMS = 64
_WARM_UP = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    host: str
    port: int
    pid: int

    @property
    def pair(self) -> tuple[str, int]:
        return self.host, self.port


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The same upstream, reached straight and through a router that divides 95 to 5."""

    direct: Address
    router: Address


@contextlib.asynccontextmanager
async def a_pair() -> AsyncIterator[Pair]:
    """The router has a core of its own; the load and the upstream share what else there is."""
    first, *others = sorted(os.sched_getaffinity(0))
    load = others[0] if others else first
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    upstream = _started(["bench.routing.upstream", str(load)], "upstream", _UPSTREAM_READY)
    async with upstream as direct:
        route = folder / "route.json"
        route.write_text(_route(f"http://{direct.host}:{direct.port}"))
        flags = ["--route", str(route), "--port", "0", "--admin-port", "0"]
        command = ["bench.routing.router_process", str(first), *flags]
        async with _started(command, "router", _ROUTER_READY) as router:
            with pinned(load):
                await _ask(router, count=_WARM_UP, connections=_CONNECTIONS)
                yield Pair(direct=direct, router=router)


async def measured(pair: Pair, number: int) -> Round:
    found: Round = {"part": "router", "round": number}
    names = ["direct", "router"] if number % 2 else ["router", "direct"]
    for name in names:
        address: Address = getattr(pair, name)
        times = await _times(address)
        found[f"{name}_p50_milliseconds"] = _percentile(times, 50)
        found[f"{name}_p99_milliseconds"] = _percentile(times, 99)
    cpu, began = cpu_seconds(pair.router.pid), perf_counter()
    await _ask(pair.router, count=_REQUESTS, connections=_CONNECTIONS)
    found["requests_per_second"] = _REQUESTS / (perf_counter() - began)
    found["requests_per_cpu_second"] = _REQUESTS / (cpu_seconds(pair.router.pid) - cpu)
    cpu = cpu_seconds(pair.router.pid)
    events = await _ask(pair.router, count=_STREAMS, connections=_STREAMS, stream=True)
    found["microseconds_per_event"] = 1e6 * (cpu_seconds(pair.router.pid) - cpu) / events
    found["resident_megabytes"] = resident_megabytes(pair.router.pid)
    return found


def _route(url: str) -> str:
    revisions = {_STABLE: {"url": url}, _CANARY: {"url": url}}
    weights = {_STABLE: 95, _CANARY: 5}
    head = {"version": "1", "server": "bench", "stable": _STABLE}
    return json.dumps({**head, "revisions": revisions, "weights": weights})


async def _ask(address: Address, *, count: int, connections: int, stream: bool = False) -> int:
    """How many events came."""
    body = {**_CHAT, "stream": True} if stream else _CHAT
    request = prepared(_ROUTE, body, f"{address.host}:{address.port}")
    tally = await ask_many(address.pair, request, count=count, connections=connections)
    if tally.answers != count:
        raise ServerFailed(f"{count} requests got {tally.answers} answers")
    return tally.events


async def _times(address: Address) -> list[float]:
    """Milliseconds of requests one after another over one connection."""
    request = prepared(_ROUTE, _CHAT, f"{address.host}:{address.port}")
    reader, writer = await asyncio.open_connection(*address.pair)
    found: list[float] = []
    try:
        for _ in range(_TIMED_REQUESTS):
            began = perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split()[0]))
            found.append(1000 * (perf_counter() - began))
    finally:
        writer.close()
    return found


def _percentile(times: Sequence[float], percent: int) -> float:
    return quantiles(times, n=100)[percent - 1]


@contextlib.asynccontextmanager
async def _started(
    module: Sequence[str], name: str, ready: re.Pattern[str]
) -> AsyncIterator[Address]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MODELSERVER_")}
    log = cache_folder() / f"router-{name}.log"
    command = [sys.executable, "-m", *module]
    environment = {**kept, "MODELSERVER_LOG_LEVEL": "warning"}
    async with running(command, environment=environment, log=log) as child:
        url = await _url(child, log, ready)
        host, _, port = url.removeprefix("http://").partition(":")
        yield Address(host=host, port=int(port), pid=child.pid)


async def _url(child: asyncio.subprocess.Process, log: Path, ready: re.Pattern[str]) -> str:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_START_SECONDS):
            while child.returncode is None:
                if found := ready.search(_text(log)):
                    return found[1]
                await asyncio.sleep(0.05)
    end = "\n".join(_text(log).splitlines()[-15:])
    raise ServerFailed(f"It is not ready; the end of {log}:\n{end}")


def _text(log: Path) -> str:
    return log.read_text(errors="replace")
