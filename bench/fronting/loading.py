"""POST /models/load: of a model that is in memory, beside the same model from disk."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from bench.fronting.asking import Client, client_of
from bench.fronting.folders import BASE, MINILM, Ability, Kind, make_missing
from bench.fronting.parts import Round, Say, below, middle
from bench.fronting.serving import ServerFailed, extra, runtime

_PRIMARY = Kind(ability=Ability.GENERATION, size=MINILM)
_LOADED = Kind(ability=Ability.EMBEDDINGS, size=BASE)
_REPEATED = 100


class Loading:
    bounds: Mapping[str, Any] = {"cached_model_load_milliseconds": below(10)}

    async def measure(self, rounds: int, say: Say) -> Sequence[Round]:
        await make_missing([_PRIMARY, _LOADED])
        extras = [extra(_LOADED, preload=False)]
        async with (
            runtime("server-loading", _PRIMARY, extras=extras) as served,
            client_of(served.url) as client,
        ):
            await _round(client)  # imports happen once in a process
            found = []
            for number in range(1, rounds + 1):
                one = await _round(client)
                say(
                    f"loading, round {number}: cold {one['cold_milliseconds']:.0f} ms, in memory "
                    f"{one['cached_milliseconds']:.2f} ms"
                )
                found.append({"part": "loading", "round": number, **one})
            return found

    def figures(self, rounds: Sequence[Round]) -> dict[str, float]:
        for one in rounds:
            one["ratio"] = one["cold_milliseconds"] / one["cached_milliseconds"]
        return {
            "cached_model_load_milliseconds": middle(rounds, "cached_milliseconds"),
            "cold_model_load_milliseconds": middle(rounds, "cold_milliseconds"),
            "ratio_cold_to_cached_model_load": middle(rounds, "ratio"),
        }

    def remarks(self, _: Mapping[str, float]) -> Iterable[str]:
        yield (
            "Loading: an encoder of 125 M parameters in float32, seen by the client; the cold load "
            "reads files that the kernel still has in memory, and ends with a first answer."
        )


async def _round(client: Client) -> Round:
    body = {"model": _LOADED.name}
    await client.post("/models/unload", body)
    cold = await client.post("/models/load", body)
    cached = await client.post_all("/models/load", [body] * _REPEATED, concurrency=1)
    said = [cold.json()["was_loaded"], *{reply.json()["was_loaded"] for reply in cached}]
    if said != [False, True]:
        raise ServerFailed(f"was_loaded must be false once and then true; it was {said}")
    return {
        "cold_milliseconds": 1000 * cold.seconds,
        "cached_milliseconds": 1000 * median(reply.seconds for reply in cached),
    }
