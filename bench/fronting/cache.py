"""The response cache on a model of 125 million parameters: hits, and equal requests at once."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from bench.fronting.asking import Client, Reply, client_of
from bench.fronting.folders import LLAMA, make_missing
from bench.fronting.parts import Round, Say, at_least, below, exactly, middle
from bench.fronting.serving import ServerFailed, runtime
from bench.serving import words

ROUTE = "/v1/chat/completions"
OUTPUT_TOKENS = 64
_PROMPT_TOKENS = 128
_PROMPTS = 5
_HITS = 500
_IDENTICAL = 1000
_GENERATED = "modelserver_generated_tokens_total"
_DURATION = "modelserver_request_duration_seconds"


class Cache:
    bounds: Mapping[str, Any] = {
        "cache_hit_p50_milliseconds": below(1),
        "ratio_cache_hit_to_uncached": at_least(160),
        "generations_for_1000_identical": exactly(1),
    }

    async def measure(self, rounds: int, say: Say) -> Sequence[Round]:
        await make_missing([LLAMA])
        async with runtime("server-cache", LLAMA) as served, client_of(served.url) as client:
            await self._round(client, served.model, seed=0)  # what is made at the first request
            found = []
            for number in range(1, rounds + 1):
                one = await self._round(client, served.model, seed=number)
                say(
                    f"cache, round {number}: hit {one['hit_p50_milliseconds']:.2f} ms, computed "
                    f"{one['uncached_p50_milliseconds']:.0f} ms, {_IDENTICAL} equal requests cost "
                    f"{one['generations_for_1000_identical']:g} generations"
                )
                found.append({"part": "cache", "round": number, **one})
            return found

    async def _round(self, client: Client, model: str, *, seed: int) -> Round:
        texts = words.messages(_PROMPTS + 1, prompt_tokens=_PROMPT_TOKENS, seed=7000 + seed)
        bodies = [_body(model, text) for text in texts]
        computed = await client.post_all(ROUTE, bodies[:-1], concurrency=1)
        repeated = [bodies[n % _PROMPTS] for n in range(_HITS)]
        before = await _time_spent(client)
        hits = await client.post_all(ROUTE, repeated, concurrency=1)
        seconds, count = (b - a for a, b in zip(before, await _time_spent(client), strict=True))
        _require(computed, "miss")
        _require(hits, "hit")
        return {
            **_medians("hit", hits),
            **_medians("uncached", computed),
            "hit_mean_milliseconds_by_metric": 1000 * seconds / count,
            **await _identical(client, bodies[-1]),
        }

    def figures(self, rounds: Sequence[Round]) -> dict[str, float]:
        hit, uncached = "hit_p50_milliseconds", "uncached_p50_milliseconds"
        for one in rounds:
            one["ratio"] = one[uncached] / one[hit]
            one["ratio_at_client"] = one[f"{uncached}_at_client"] / one[f"{hit}_at_client"]
        return {
            "cache_hit_p50_milliseconds": middle(rounds, hit),
            "cache_hit_mean_milliseconds_by_metric": middle(
                rounds, "hit_mean_milliseconds_by_metric"
            ),
            "cache_hit_p50_milliseconds_at_client": middle(rounds, f"{hit}_at_client"),
            "uncached_p50_milliseconds": middle(rounds, uncached),
            "ratio_cache_hit_to_uncached": middle(rounds, "ratio"),
            "ratio_cache_hit_to_uncached_at_client": middle(rounds, "ratio_at_client"),
            "generations_for_1000_identical": max(
                one["generations_for_1000_identical"] for one in rounds
            ),
        }

    def remarks(self, _: Mapping[str, float]) -> Iterable[str]:
        yield (
            f"Cache: chats of {_PROMPT_TOKENS} tokens answered with {OUTPUT_TOKENS}, one at a time;"
            f" times at the server are those of Server-Timing, and the metric's are means over"
            f" {_HITS} hits; generations are the generated tokens by the metric, over"
            f" {OUTPUT_TOKENS}, the worst of the rounds."
        )


def _body(model: str, text: str) -> dict[str, Any]:
    return {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "max_tokens": OUTPUT_TOKENS,
    }


def _medians(name: str, replies: Sequence[Reply]) -> dict[str, float]:
    milliseconds = f"{name}_p50_milliseconds"
    return {
        milliseconds: 1000 * median(reply.server_seconds for reply in replies),
        f"{milliseconds}_at_client": 1000 * median(reply.seconds for reply in replies),
    }


async def _time_spent(client: Client) -> tuple[float, float]:
    """Seconds and number of all requests of the route, by the server's own metric."""
    return (
        await client.metric(f"{_DURATION}_sum", route=ROUTE),
        await client.metric(f"{_DURATION}_count", route=ROUTE),
    )


async def _identical(client: Client, body: dict[str, Any]) -> Round:
    before = await client.metric(_GENERATED)
    replies = await client.post_all(ROUTE, [body] * _IDENTICAL, concurrency=_IDENTICAL)
    tokens = await client.metric(_GENERATED) - before
    if len({reply.json()["choices"][0]["message"]["content"] for reply in replies}) != 1:
        raise ServerFailed("Equal requests were answered differently")
    return {
        "generations_for_1000_identical": tokens / OUTPUT_TOKENS,
        "identical_seconds": round(max(reply.seconds for reply in replies), 3),
    }


def _require(replies: Sequence[Reply], outcome: str) -> None:
    if wrong := {reply.cache for reply in replies} - {outcome}:
        raise ServerFailed(f"X-Cache is {', '.join(sorted(wrong))} where it must be {outcome}")
