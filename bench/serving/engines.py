"""What is compared: how each engine is started, when it is ready, and how it is asked."""

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import batched
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import aiohttp

from bench.serving import words
from bench.serving.answers import Answer, Load
from bench.serving.client import Endpoint, answer_of, ask_all
from bench.serving.model_folder import cache_folder
from bench.serving.peer_environment import peer_environment
from bench.serving.processes import running

OURS = "ours"
GENERATE = "generate"
SEQUENTIAL = "transformers_serve"
CONTINUOUS = "transformers_serve_continuous_batching"

START_LIMIT_SECONDS = 120.0
# Enough for 32 sequences of 256 tokens. Left to itself it takes 60 % of the memory, and a mask of
# max_batch_tokens times all of that.
_CONTINUOUS_BATCHING_FLAGS = ("--cb-num-blocks", "64", "--cb-max-batch-tokens", "1024")


class EngineFailed(Exception):
    """An engine does not start or does not answer; the sentence holds the end of its log."""


class Engine(Protocol):
    """A running engine."""

    @property
    def pid(self) -> int: ...

    @property
    def start_seconds(self) -> float: ...

    async def answer(self, messages: Sequence[str], load: Load) -> Sequence[Answer]:
        """One answer for every message; what fails is an answer too."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """An engine behind HTTP."""

    pid: int
    start_seconds: float
    endpoint: Endpoint

    async def answer(self, messages: Sequence[str], load: Load) -> Sequence[Answer]:
        recordings = await ask_all(self.endpoint, messages, load)
        return [answer_of(it, output_tokens=load.output_tokens) for it in recordings]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """`model.generate()` in a process of its own, which takes batches over a pipe."""

    pid: int
    start_seconds: float
    process: asyncio.subprocess.Process

    async def answer(self, messages: Sequence[str], load: Load) -> Sequence[Answer]:
        answers: list[Answer] = []
        failure = load.too_late
        try:
            async with asyncio.timeout(load.limit_seconds):
                for batch in batched(messages, load.concurrency, strict=False):
                    answers += await self._batch(batch, load.output_tokens)
        except TimeoutError:
            pass
        except EngineFailed as error:
            failure = str(error)
        missing = messages[len(answers) :]
        return answers + [Answer(message=message, failure=failure) for message in missing]

    async def _batch(self, messages: Sequence[str], output_tokens: int) -> list[Answer]:
        prompts = [words.chat_token_ids(message) for message in messages]
        request = {"prompts": prompts, "output_tokens": output_tokens}
        reply = await talk(self.process, request)
        return [
            Answer(
                message=message,
                token_ids=tuple(output),
                first_token_seconds=reply["first_token_seconds"],
                total_seconds=reply["total_seconds"],
            )
            for message, output in zip(messages, reply["outputs"], strict=True)
        ]


async def talk(process: asyncio.subprocess.Process, request: Mapping[str, Any]) -> dict[str, Any]:
    """One JSON line to a worker, one back; a worker that is not waited for is ended."""
    if process.stdin is None or process.stdout is None:
        raise EngineFailed("The worker was started without pipes.")
    try:
        process.stdin.write(json.dumps(request).encode() + b"\n")
        await process.stdin.drain()
        return await _line(process.stdout)
    except asyncio.CancelledError:
        process.kill()  # its late answer must not be taken for that of the next request
        raise
    except ConnectionError as error:
        raise EngineFailed("The worker has ended.") from error


async def _line(stream: asyncio.StreamReader) -> dict[str, Any]:
    line = await stream.readline()
    if not line:
        raise EngineFailed("The worker ended without an answer.")
    reply: dict[str, Any] = json.loads(line)
    return reply


type Start = Callable[[Path, Mapping[str, str]], contextlib.AbstractAsyncContextManager[Engine]]


def engine_starters() -> dict[str, Start]:
    """Name → what starts it with a model's folder and the environment of its process."""
    return {
        OURS: _start_ours,
        GENERATE: _start_generate,
        SEQUENTIAL: _transformers_serve(),
        CONTINUOUS: _transformers_serve("--continuous-batching", *_CONTINUOUS_BATCHING_FLAGS),
    }


@contextlib.asynccontextmanager
async def worker(
    module: str, folder: Path, environment: Mapping[str, str], *, log: Path
) -> AsyncIterator[Worker]:
    """A process of `python -m MODULE FOLDER` that says one line when it is ready."""
    command = [sys.executable, "-m", module, str(folder)]
    started = perf_counter()
    async with running(command, environment=environment, log=log, talks=True) as process:
        assert process.stdout is not None  # it has pipes
        with _explained(log):
            await asyncio.wait_for(_line(process.stdout), START_LIMIT_SECONDS)
        yield Worker(pid=process.pid, start_seconds=perf_counter() - started, process=process)


@contextlib.asynccontextmanager
async def _start_generate(folder: Path, environment: Mapping[str, str]) -> AsyncIterator[Engine]:
    log = log_of(GENERATE)
    async with worker("bench.serving.generate_worker", folder, environment, log=log) as engine:
        yield engine


@contextlib.asynccontextmanager
async def _start_ours(folder: Path, environment: Mapping[str, str]) -> AsyncIterator[Engine]:
    port = free_port()
    command = [sys.executable, "-m", "modelserver_runtime", "serve"]
    command += ["--model", str(folder), "--served-name", "benchmark"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    own = {
        "MODELSERVER_TERMINATION_LOG": str(cache_folder() / "termination.json"),
        # What is measured is computing, not remembering.
        "MODELSERVER_CACHE_MAX_ENTRIES": "0",
    }
    async with _server(OURS, command, {**environment, **own}, port, "/readyz", "benchmark") as it:
        yield it


def _transformers_serve(*flags: str) -> Start:
    name = CONTINUOUS if flags else SEQUENTIAL

    @contextlib.asynccontextmanager
    async def start(folder: Path, environment: Mapping[str, str]) -> AsyncIterator[Engine]:
        port = free_port()
        python = str(peer_environment() / "bin" / "python")
        command = [python, "-m", "transformers.cli.transformers", "serve", str(folder)]
        command += ["--host", "127.0.0.1", "--port", str(port), *flags]
        async with _server(name, command, environment, port, "/health", str(folder)) as it:
            yield it

    return start


@contextlib.asynccontextmanager
async def _server(
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    port: int,
    ready: str,
    model: str,
) -> AsyncIterator[Server]:
    endpoint = Endpoint(url=f"http://127.0.0.1:{port}", model=model)
    async with server(name, command, environment, endpoint, ready=ready) as it:
        yield it


@contextlib.asynccontextmanager
async def server(
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    endpoint: Endpoint,
    *,
    ready: str,
    limit_seconds: float = START_LIMIT_SECONDS,
) -> AsyncIterator[Server]:
    """A process that is ready when GET `ready` of its endpoint says 200."""
    log = log_of(name)
    started = perf_counter()
    async with running(command, environment=environment, log=log) as process:
        with _explained(log, limit_seconds):
            await asyncio.wait_for(_until_ready(process, endpoint.url + ready), limit_seconds)
        yield Server(pid=process.pid, start_seconds=perf_counter() - started, endpoint=endpoint)


async def _until_ready(process: asyncio.subprocess.Process, url: str) -> None:
    async with aiohttp.ClientSession() as session:
        while process.returncode is None:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(url) as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.1)
    raise EngineFailed(f"It ended with exit code {process.returncode} before it was ready.")


@contextlib.contextmanager
def _explained(log: Path, limit_seconds: float = START_LIMIT_SECONDS) -> Iterator[None]:
    """Adds the end of the engine's log to what went wrong at its start."""
    try:
        yield
    except (EngineFailed, TimeoutError) as error:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        reason = str(error) or f"It was not ready within {limit_seconds:.0f} s."
        raise EngineFailed(f"{reason} The end of {log}:\n{tail}") from error


def log_of(name: str) -> Path:
    return cache_folder() / f"{name}.log"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def engine_environment(**more: str) -> dict[str, str]:
    """The same for every engine; nothing is fetched over the network."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", **more}
