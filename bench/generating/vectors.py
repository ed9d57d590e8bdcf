"""Embeddings beside infinity: one text a request, of mixed lengths, 32 requests at a time.

infinity computes in float32 by itself on a CPU, and in bf16 when told to; both are measured, and
the ratio is to the better one. Vectors are compared with infinity's in float32 before anything is
timed.
"""

import asyncio
import base64
import contextlib
import struct
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from statistics import median
from typing import Any

import orjson

from bench.environments import environment
from bench.fronting.asking import Reply, client_of
from bench.fronting.serving import runtime
from bench.generating.folders import ENCODER
from bench.generating.workload import text
from bench.serving.client import Endpoint
from bench.serving.engines import EngineFailed, free_port, server
from bench.serving.measurement import Usage, used
from bench.serving.model_folder import SEED
from bench.serving.processes import QUIET_CORES, pause, peak_memory_megabytes, resume

OURS, INFINITY, INFINITY_BF16 = "ours", "infinity", "infinity_bfloat16"
CONCURRENCY = 32
TEXT_TOKENS = (8, 256)
MOST_DIFFERENT = 1e-3  # of a component, the vectors being of length one
_REQUESTS = 512
_COMPARED = 64
_START_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedder:
    """A running server; `path` is that of OpenAI's route."""

    name: str
    url: str
    pid: int
    start_seconds: float
    path: str

    async def ask(self, texts: Sequence[str]) -> list[Reply]:
        """Base64, which is the fastest form that both know."""
        bodies = [{"model": ENCODER.name, "input": it, "encoding_format": "base64"} for it in texts]
        async with client_of(self.url) as client:
            return await client.post_all(self.path, bodies, concurrency=CONCURRENCY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """One measurement."""

    engine: str
    round: int
    tokens: int
    seconds_each: Sequence[float]
    usage: Usage

    @property
    def texts_per_second(self) -> float:
        return len(self.seconds_each) / self.usage.seconds

    def as_round(self) -> dict[str, Any]:
        usage = self.usage
        return {
            "part": "embeddings",
            "engine": self.engine,
            "load": f"c{CONCURRENCY}",
            "round": self.round,
            "texts_per_second": round(self.texts_per_second, 2),
            "tokens_per_second": round(self.tokens / usage.seconds, 1),
            "milliseconds_p50": round(1000 * median(self.seconds_each), 2),
            "seconds": round(usage.seconds, 3),
            "engine_cpu_seconds": round(usage.engine_cpu_seconds, 3),
            "client_cpu_seconds": round(usage.client_cpu_seconds, 3),
            "others_busy_cores": round(usage.others_busy_cores, 2),
        }


@contextlib.asynccontextmanager
async def embedders(
    given: Mapping[str, str], say: Callable[[str], None]
) -> AsyncIterator[list[Embedder]]:
    """All of them, stopped; whoever asks one resumes it."""
    starts = {
        OURS: _ours(),
        INFINITY: _infinity(INFINITY, given),
        INFINITY_BF16: _infinity(INFINITY_BF16, given, "--dtype", "bfloat16"),
    }
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for name, start in starts.items():
            say(f"embeddings, {name}: starting")
            found.append(await stack.enter_async_context(start))
            await found[-1].ask(texts(CONCURRENCY, seed=SEED))
            pause(found[-1].pid)
        yield found


@contextlib.asynccontextmanager
async def _ours() -> AsyncIterator[Embedder]:
    settings = {"cache_max_entries": 0, "log_level": "warning"}
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with runtime("engine-embeddings", ENCODER, settings=settings) as served:
        yield Embedder(
            name=OURS,
            url=served.url,
            pid=served.pid,
            start_seconds=loop.time() - began,
            path="/v1/embeddings",
        )


@contextlib.asynccontextmanager
async def _infinity(name: str, given: Mapping[str, str], *flags: str) -> AsyncIterator[Embedder]:
    installed = await asyncio.to_thread(environment, "infinity")
    port = free_port()
    command = [str(installed / "bin" / "infinity_emb"), "v2", "--model-id", str(ENCODER.folder)]
    command += ["--served-model-name", ENCODER.name, "--engine", "torch", "--device", "cpu"]
    command += ["--host", "127.0.0.1", "--port", str(port), *flags]
    endpoint = Endpoint(url=f"http://127.0.0.1:{port}", model=ENCODER.name)
    quiet = {**given, "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    async with server(
        name, command, quiet, endpoint, ready="/health", limit_seconds=_START_SECONDS
    ) as it:
        yield Embedder(
            name=name,
            url=endpoint.url,
            pid=it.pid,
            start_seconds=it.start_seconds,
            path="/embeddings",
        )


def texts(count: int, *, seed: int) -> list[str]:
    """All different, of lengths that are equally likely."""
    chance = Random(seed)
    return [text(chance, chance.randint(*TEXT_TOKENS)) for _ in range(count)]


async def differences(engines: Sequence[Embedder]) -> dict[str, float]:
    """Engine → the largest difference of a component from infinity's in float32."""
    asked = texts(_COMPARED, seed=SEED + 1)
    vectors = {}
    for engine in engines:
        resume(engine.pid)
        vectors[engine.name] = [vector_of(reply.body) for reply in await engine.ask(asked)]
        pause(engine.pid)
    return {
        name: max(
            abs(a - b)
            for one, other in zip(given, vectors[INFINITY], strict=True)
            for a, b in zip(one, other, strict=True)
        )
        for name, given in vectors.items()
        if name != INFINITY
    }


def vector_of(body: bytes) -> tuple[float, ...]:
    """Of length one: some servers normalise, and others leave it to the model's configuration."""
    raw = base64.b64decode(orjson.loads(body)["data"][0]["embedding"])
    values = struct.unpack(f"<{len(raw) // 4}f", raw)
    length = sum(value * value for value in values) ** 0.5
    return tuple(value / length for value in values)


def demand_equal(found: Mapping[str, float]) -> None:
    """Raises EngineFailed if ours are other vectors; bf16 of infinity is not ours to judge."""
    if found[OURS] > MOST_DIFFERENT:
        raise EngineFailed(
            f"Embeddings are not measured: a component differs by {found[OURS]:.2g} from "
            f"infinity's in float32, and by at most {MOST_DIFFERENT} it may"
        )


async def measure_round(
    engines: Sequence[Embedder], number: int, patience: float
) -> list[Embedded]:
    """Each once, beginning with another one in every round."""
    asked = texts(_REQUESTS, seed=SEED + 100 * number)
    first = (number - 1) % len(engines)
    found = []
    for engine in [*engines[first:], *engines[:first]]:
        resume(engine.pid)
        replies, usage = await used(engine.pid, partial(engine.ask, asked), patience=patience)
        pause(engine.pid)
        found.append(
            Embedded(
                engine=engine.name,
                round=number,
                tokens=sum(len(it.split()) for it in asked),
                seconds_each=[reply.seconds for reply in replies],
                usage=usage,
            )
        )
    return found


def embedding_figures(
    measured: Sequence[Embedded], different: Mapping[str, float], engines: Sequence[Embedder]
) -> dict[str, float]:
    """Medians of the rounds that nobody disturbed, or of all where there are none."""
    speeds = {
        engine.name: median(it.texts_per_second for it in _counted(measured, engine.name))
        for engine in engines
    }
    theirs = max(speeds[INFINITY], speeds[INFINITY_BF16])
    return {
        "ratio_to_infinity_embeddings_c32": _short(speeds[OURS] / theirs),
        **{f"texts_per_second_c32_{name}": _short(speed) for name, speed in speeds.items()},
        **{f"largest_difference_{name}": float(f"{it:.2g}") for name, it in different.items()},
        **{f"embedder_start_seconds_{it.name}": _short(it.start_seconds) for it in engines},
        **{
            f"embedder_peak_rss_megabytes_{it.name}": _short(peak_memory_megabytes(it.pid))
            for it in engines
        },
    }


def _counted(measured: Sequence[Embedded], engine: str) -> list[Embedded]:
    given = [it for it in measured if it.engine == engine]
    return [it for it in given if it.usage.others_busy_cores <= QUIET_CORES] or given


def _short(value: float) -> float:
    return float(f"{value:.4g}")
