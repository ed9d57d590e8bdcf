"""What is compared, and how each is started so that it is at its best on this machine."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.generating.llama_cpp import gguf_file, llama_server
from bench.generating.vllm_environment import openmp_library, vllm_environment
from bench.serving.client import Endpoint
from bench.serving.engines import (
    CONTINUOUS,
    OURS,
    SEQUENTIAL,
    Server,
    Start,
    engine_starters,
    free_port,
    server,
)
from bench.serving.peer_environment import peer_environment

VLLM = "vllm_cpu"
VLLM_ALL_CORES = "vllm_cpu_all_cores"
LLAMA_CPP = "llama_cpp"
LITSERVE = "litserve"

# vLLM compiles the model at its start; with an empty cache and a busy machine that takes minutes.
_VLLM_START_SECONDS = 900.0
_START_SECONDS = 180.0
_VLLM_CACHE_GIB = "2"  # keys and values of 32 sequences of 2,048 tokens of the largest model here
_SLOTS = 32
_SLOT_TOKENS = 1024  # more than the longest prompt and its answer
_MODEL = "benchmark"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """An engine that can be measured.

    `most_at_a_time`: above it nothing is learnt, because it takes one request after another.
    """

    start: Start
    most_at_a_time: int = _SLOTS
    prepare: Callable[[Path, Callable[[str], None]], None] = field(default=lambda *_: None)


def choices() -> dict[str, Choice]:
    """Name → engine, ours first."""
    known = engine_starters()
    all_cores = f"0-{max(os.sched_getaffinity(0))}"
    return {
        OURS: Choice(start=_ignoring_the_end(known[OURS])),
        VLLM: Choice(start=_vllm(VLLM), prepare=_prepare_vllm),
        VLLM_ALL_CORES: Choice(
            start=_vllm(VLLM_ALL_CORES, VLLM_CPU_OMP_THREADS_BIND=all_cores), prepare=_prepare_vllm
        ),
        LLAMA_CPP: Choice(start=_llama_cpp, prepare=_prepare_llama_cpp),
        LITSERVE: Choice(start=_litserve, prepare=_prepare_peers),
        CONTINUOUS: Choice(start=known[CONTINUOUS], prepare=_prepare_peers),
        SEQUENTIAL: Choice(start=known[SEQUENTIAL], prepare=_prepare_peers, most_at_a_time=8),
    }


def _prepare_vllm(folder: Path, say: Callable[[str], None]) -> None:
    say("vLLM: its environment")
    vllm_environment()
    del folder


def _prepare_peers(folder: Path, say: Callable[[str], None]) -> None:
    say("transformers serve and LitServe: their environment")
    peer_environment()
    del folder


def _prepare_llama_cpp(folder: Path, say: Callable[[str], None]) -> None:
    llama_server(say)
    gguf_file(folder, say)


def _ignoring_the_end(start: Start) -> Start:
    @contextlib.asynccontextmanager
    async def started(folder: Path, environment: Mapping[str, str]) -> AsyncIterator[Server]:
        async with start(folder, environment) as engine:
            assert isinstance(engine, Server)
            yield _with(engine, ignore_eos=True)

    return started


def _with(engine: Server, **more: object) -> Server:
    given = engine.endpoint
    endpoint = Endpoint(url=given.url, model=given.model, streams=given.streams, more=more)
    return Server(pid=engine.pid, start_seconds=engine.start_seconds, endpoint=endpoint)


def _vllm(name: str, **own: str) -> Start:
    @contextlib.asynccontextmanager
    async def start(folder: Path, environment: Mapping[str, str]) -> AsyncIterator[Server]:
        installed = await asyncio.to_thread(vllm_environment)
        command = [str(installed / "bin" / "vllm"), "serve", str(folder)]
        command += ["--served-model-name", _MODEL, "--dtype", "bfloat16"]
        settings = {
            "VLLM_CPU_KVCACHE_SPACE": _VLLM_CACHE_GIB,
            "LD_PRELOAD": str(openmp_library(installed)),
            "VLLM_NO_USAGE_STATS": "1",
            **own,
        }
        given = {**_own_waiting(environment), **settings}
        async with _served(name, command, given, more={"ignore_eos": True}) as it:
            yield it

    return start


@contextlib.asynccontextmanager
async def _llama_cpp(folder: Path, environment: Mapping[str, str]) -> AsyncIterator[Server]:
    program = await asyncio.to_thread(llama_server, print)
    file = await asyncio.to_thread(gguf_file, folder, print)
    command = [str(program), "--model", str(file), "--jinja"]
    command += ["--parallel", str(_SLOTS), "--ctx-size", str(_SLOTS * _SLOT_TOKENS)]
    given = _own_waiting(environment)
    async with _served(LLAMA_CPP, command, given, more={"ignore_eos": True}) as it:
        yield it


def _own_waiting(environment: Mapping[str, str]) -> dict[str, str]:
    """Of engines that decide themselves how their threads wait."""
    return {name: value for name, value in environment.items() if name != "OMP_WAIT_POLICY"}


@contextlib.asynccontextmanager
async def _litserve(folder: Path, environment: Mapping[str, str]) -> AsyncIterator[Server]:
    python = str(peer_environment() / "bin" / "python")
    port = free_port()
    command = [python, "-m", "bench.generating.litserve_server", str(folder), str(port)]
    endpoint = Endpoint(url=f"http://127.0.0.1:{port}", model=_MODEL, streams=False)
    async with server(
        LITSERVE, command, environment, endpoint, ready="/health", limit_seconds=_START_SECONDS
    ) as it:
        yield it


@contextlib.asynccontextmanager
async def _served(
    name: str, command: list[str], environment: Mapping[str, str], *, more: Mapping[str, object]
) -> AsyncIterator[Server]:
    port = free_port()
    command = [*command, "--host", "127.0.0.1", "--port", str(port)]
    endpoint = Endpoint(url=f"http://127.0.0.1:{port}", model=_MODEL, more=more)
    async with server(
        name, command, environment, endpoint, ready="/health", limit_seconds=_VLLM_START_SECONDS
    ) as it:
        yield it
