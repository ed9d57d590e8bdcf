"""Batched against unbatched at concurrency 32: the same server, and one that may batch nothing.

Both processes hold the same six models; one of them is asked at a time, in turns.
"""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from bench.fronting.asking import Client, client_of
from bench.fronting.folders import BASE, KINDS, LLAMA, Ability, Kind, make_missing
from bench.fronting.parts import Round, Say, at_least, middle
from bench.fronting.roofline import Roofline, measure_roofline
from bench.fronting.serving import Served, extra, runtime
from bench.serving import words

CONCURRENCY = 32
_TEXT_TOKENS = 32
_OUTPUT_TOKENS = 32
_SEED = 9000
# What the project promises of batching, where the machine allows it.
_PROMISE = 10
# Requests of one measurement: about as long for each kind, and every batch of 32 can be full.
_REQUESTS = {Ability.CLASSIFICATION: 96, Ability.EMBEDDINGS: 96, Ability.GENERATION: 32}
_WARM_UP = 8
_SMALL_FACTOR = 4  # small encoders answer so much faster

_COMMON = {"cache_max_entries": 0, "max_loaded_models": len(KINDS), "log_level": "warning"}
BATCHED = {**_COMMON, "max_batch_size": CONCURRENCY, "max_running_sequences": CONCURRENCY}
UNBATCHED = {**_COMMON, "max_batch_size": 1, "max_running_sequences": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    name: str
    client: Client


class Batching:
    bounds: Mapping[str, Any] = {
        f"ratio_batched_to_unbatched_c32_{kind.name}": at_least(_PROMISE) for kind in KINDS
    }

    def __init__(self) -> None:
        self._roofline: Roofline | None = None

    async def measure(self, rounds: int, say: Say) -> Sequence[Round]:
        await make_missing(KINDS)
        self._roofline = await measure_roofline()
        say(f"batching: {self._roofline}")
        async with contextlib.AsyncExitStack() as stack:
            servers = [
                await _start(stack, name, settings)
                for name, settings in (("batched", BATCHED), ("unbatched", UNBATCHED))
            ]
            for server in servers:
                await _warm_up(server.client)
            found: list[Round] = []
            for number in range(1, rounds + 1):
                found += await _round(servers, number, say)
            return found

    def figures(self, rounds: Sequence[Round]) -> dict[str, float]:
        figures: dict[str, float] = {}
        for kind in KINDS:
            of_kind = [one for one in rounds if one["model"] == kind.name]
            figures[f"ratio_batched_to_unbatched_c32_{kind.name}"] = middle(of_kind, "ratio")
        ratios = list(figures.values())
        figures["ratio_batched_to_unbatched_c32_best"] = max(ratios)
        figures["ratio_batched_to_unbatched_c32_worst"] = min(ratios)
        for kind in KINDS:
            of_kind = [one for one in rounds if one["model"] == kind.name]
            for name in ("batched", "unbatched"):
                key = f"requests_per_second_{name}_c32_{kind.name}"
                figures[key] = middle(of_kind, name)
        return figures | self._limits()

    def _limits(self) -> dict[str, float]:
        roofline = self._roofline
        if roofline is None:
            return {}
        limits = {
            f"limit_of_ratio_c32_{kind.name}": round(
                roofline.limit(kind, tokens=_tokens_together(kind), batch=CONCURRENCY), 2
            )
            for kind in KINDS
        }
        return {
            **limits,
            "machine_float32_gflops": roofline.float32_gflops,
            "machine_bfloat16_gflops": roofline.bfloat16_gflops,
            "machine_read_gigabytes_per_second": roofline.read_gigabytes_per_second,
        }

    def remarks(self, figures: Mapping[str, float]) -> Iterable[str]:
        yield (
            f"Batching: texts of {_TEXT_TOKENS} words, all different; answers of {_OUTPUT_TOKENS} "
            f"tokens; {CONCURRENCY} requests at a time of one server at a time. limit_of_ratio is "
            "what a roofline of this machine (matrices of 2048, a gigabyte read) allows: a batch "
            "saves reading weights and no computing, so an encoder, which computes all tokens of "
            "a text with each weight that it reads, gains little on a CPU."
        )
        missed = [kind.name for kind in KINDS if figures[_ratio(kind)] < _PROMISE]
        forbidden = [name for name in missed if figures[f"limit_of_ratio_c32_{name}"] < _PROMISE]
        if forbidden:
            yield f"Ten times is beyond that limit for {', '.join(forbidden)}."
        if others := [name for name in missed if name not in forbidden]:
            yield (
                f"For {', '.join(others)} the limit would allow it; the rest is attention, "
                "sampling and HTTP, which no batch shares."
            )


def _ratio(kind: Kind) -> str:
    return f"ratio_batched_to_unbatched_c32_{kind.name}"


def _tokens_together(kind: Kind) -> int:
    return 1 if kind.ability is Ability.GENERATION else _TEXT_TOKENS


async def _start(
    stack: contextlib.AsyncExitStack, name: str, settings: Mapping[str, object]
) -> _Server:
    extras = [extra(kind, preload=True) for kind in KINDS if kind != LLAMA]
    served: Served = await stack.enter_async_context(
        runtime(f"server-{name}", LLAMA, extras=extras, settings=settings)
    )
    client = await stack.enter_async_context(client_of(served.url))
    return _Server(name=name, client=client)


async def _warm_up(client: Client) -> None:
    for kind in KINDS:
        path, bodies = _load(kind, count=_WARM_UP, seed=0)
        await client.post_all(path, bodies, concurrency=CONCURRENCY)


async def _round(servers: Sequence[_Server], number: int, say: Say) -> list[Round]:
    """Another server begins with each round, and with each model."""
    found = []
    for turn, kind in enumerate(KINDS, start=number):
        order = servers if turn % 2 else servers[::-1]
        speeds = {server.name: await _speed(server.client, kind, number) for server in order}
        ratio = speeds["batched"] / speeds["unbatched"]
        say(
            f"batching, round {number}, {kind.name}: {speeds['batched']:.1f} against "
            f"{speeds['unbatched']:.1f} requests/s, ratio {ratio:.2f}"
        )
        about = {"part": "batching", "round": number, "model": kind.name}
        found.append({**about, **speeds, "ratio": ratio})
    return found


async def _speed(client: Client, kind: Kind, number: int) -> float:
    """Requests per second; the same texts for both servers."""
    factor = 1 if kind.size is BASE or kind.ability is Ability.GENERATION else _SMALL_FACTOR
    path, bodies = _load(kind, count=_REQUESTS[kind.ability] * factor, seed=number)
    began = perf_counter()
    await client.post_all(path, bodies, concurrency=CONCURRENCY)
    return len(bodies) / (perf_counter() - began)


def _load(kind: Kind, *, count: int, seed: int) -> tuple[str, list[dict[str, Any]]]:
    prompt_tokens = _TEXT_TOKENS + words.CHAT_TOKENS
    texts = words.messages(count, prompt_tokens=prompt_tokens, seed=_SEED + seed)
    match kind.ability:
        case Ability.CLASSIFICATION:
            return "/predict", [{"model": kind.name, "inputs": text} for text in texts]
        case Ability.EMBEDDINGS:
            # base64: otherwise it is the writing of decimal numbers that is measured
            common = {"model": kind.name, "encoding_format": "base64"}
            return "/v1/embeddings", [{**common, "input": text} for text in texts]
        case Ability.GENERATION:
            common = {"model": kind.name, "max_tokens": _OUTPUT_TOKENS, "temperature": 0}
            return "/v1/completions", [{**common, "prompt": text} for text in texts]
