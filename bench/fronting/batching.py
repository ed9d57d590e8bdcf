"""Batched against unbatched at concurrency 32: the same server, and one that may batch nothing.

Both processes hold the same six models; one of them is asked at a time, in turns.
"""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from bench.fronting.asking import Client, client_of
from bench.fronting.folders import BASE, KINDS, LLAMA, Ability, Kind, make_missing
from bench.fronting.parts import Round, Say, at_least, middle
from bench.fronting.roofline import Load, Roofline, best_of, measure_roofline
from bench.fronting.serving import Served, extra, runtime
from bench.serving import words

CONCURRENCY = 32
_TEXT_TOKENS = 32
_OUTPUT_TOKENS = 32
_SEED = 9000
_RATIO = "ratio_batched_to_unbatched_c32"
# What the project promises of batching, where the machine allows it.
_PROMISE = 10
# Requests of one measurement: about as long for each kind, and every batch of 32 can be full.
_REQUESTS = {Ability.CLASSIFICATION: 96, Ability.EMBEDDINGS: 96, Ability.GENERATION: 32}
_WARM_UP = 8
_SMALL_FACTOR = 4  # small encoders answer so much faster

_TOKENS = {
    Ability.CLASSIFICATION: Load(text_tokens=_TEXT_TOKENS),
    Ability.EMBEDDINGS: Load(text_tokens=_TEXT_TOKENS),
    Ability.GENERATION: Load(text_tokens=_TEXT_TOKENS, output_tokens=_OUTPUT_TOKENS),
}

# The last of 32 waits for all others where nothing is batched, which is no failure here.
_PATIENCE_SECONDS = 600
_COMMON = {
    "cache_max_entries": 0,
    "max_loaded_models": len(KINDS),
    "log_level": "warning",
    "queue_timeout_seconds": _PATIENCE_SECONDS,
    "request_timeout_seconds": _PATIENCE_SECONDS,
}
BATCHED = {**_COMMON, "max_batch_size": CONCURRENCY, "max_running_sequences": CONCURRENCY}
UNBATCHED = {**_COMMON, "max_batch_size": 1, "max_running_sequences": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    name: str
    client: Client


class Batching:
    bounds: Mapping[str, Any] = {f"{_RATIO}_{kind.name}": at_least(_PROMISE) for kind in KINDS}

    async def measure(self, rounds: int, say: Say) -> Sequence[Round]:
        await make_missing(KINDS)
        async with contextlib.AsyncExitStack() as stack:
            servers = [
                await _start(stack, name, settings)
                for name, settings in (("batched", BATCHED), ("unbatched", UNBATCHED))
            ]
            for server in servers:
                await _warm_up(server.client)
            found: list[Round] = []
            for number in range(1, rounds + 1):
                machine = await measure_roofline()
                say(f"batching, round {number}: {machine}")
                about = {"part": "batching", "round": number, **asdict(machine)}
                found += [about | one for one in await _round(servers, number, say)]
            return found

    def figures(self, rounds: Sequence[Round]) -> dict[str, float]:
        of_kinds = {kind: [one for one in rounds if one["model"] == kind.name] for kind in KINDS}
        ratios = {_ratio(kind): middle(found, "ratio") for kind, found in of_kinds.items()}
        figures = {
            **ratios,
            f"{_RATIO}_best": max(ratios.values()),
            f"{_RATIO}_worst": min(ratios.values()),
        }
        machine = best_of([_machine_of(one) for one in rounds])
        for kind, found in of_kinds.items():
            batched, unbatched = middle(found, "batched"), middle(found, "unbatched")
            limit = machine.requests_per_second(kind, _TOKENS[kind.ability], batch=CONCURRENCY)
            figures |= {
                f"requests_per_second_batched_c32_{kind.name}": batched,
                f"requests_per_second_unbatched_c32_{kind.name}": unbatched,
                f"limit_of_requests_per_second_{kind.name}": float(f"{limit:.4g}"),
                _limit_of_ratio(kind): float(f"{limit / unbatched:.3g}"),
            }
        return figures | {f"machine_{name}": value for name, value in asdict(machine).items()}

    def remarks(self, figures: Mapping[str, float]) -> Iterable[str]:
        yield (
            f"Batching: texts of {_TEXT_TOKENS} words, all different; answers of {_OUTPUT_TOKENS} "
            f"tokens; {CONCURRENCY} requests at a time of one server at a time. limit_of_ratio is "
            "how much faster than unbatched a batch would be that reaches the roofline of this "
            "machine (the best matrix product and the best read of a gigabyte) and does nothing "
            "else: a batch saves reading weights and starting threads, and no computing; an "
            "encoder computes with each weight for all tokens of a text already."
        )
        missed = [kind for kind in KINDS if figures[_ratio(kind)] < _PROMISE]
        forbidden = [kind for kind in missed if figures[_limit_of_ratio(kind)] < _PROMISE]
        if forbidden:
            yield f"Ten times is beyond that limit for {_names(forbidden)}."
        if others := [kind for kind in missed if kind not in forbidden]:
            yield (
                f"For {_names(others)} the limit would allow it; the rest is attention, "
                "sampling, matrices that are too small for the roofline, and HTTP."
            )


def _names(kinds: Iterable[Kind]) -> str:
    return ", ".join(kind.name for kind in kinds)


def _machine_of(one: Round) -> Roofline:
    return Roofline(**{name: one[name] for name in Roofline.__slots__})


def _limit_of_ratio(kind: Kind) -> str:
    return f"limit_of_ratio_c32_{kind.name}"


def _ratio(kind: Kind) -> str:
    return f"{_RATIO}_{kind.name}"


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
        found.append({"model": kind.name, **speeds, "ratio": ratio})
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
