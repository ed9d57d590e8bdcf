"""`python -m bench.router`: what the built-in router adds to a request, and how many it passes.

The same upstream, which answers at once, is asked straight and through the router, which divides
95 to 5. The router keeps to one core, upstream and load to another one. A figure is the median of
its rounds.
"""

import argparse
import sys
from collections.abc import Sequence
from time import perf_counter

from bench.command_line import count, run_benchmark
from bench.fronting.parts import Round, at_least, at_most, middle
from bench.fronting.serving import ServerFailed
from bench.results_file import Result, Target, versions
from bench.routing.measurement import a_pair, measured
from bench.serving.processes import quiet_moment

_SOFTWARE = ("uvicorn", "httptools", "uvloop", "pydantic")
BOUNDS = {
    "router_added_milliseconds_p50": at_most(1),
    "router_added_milliseconds_p99": at_most(5),
    "router_requests_per_second_per_core": at_least(3000),
}


def main() -> int:
    arguments = _parser().parse_args()
    return run_benchmark(_measure(arguments), ServerFailed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.router",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rounds", type=count, default=5, help="repetitions (5)")
    add("--patience", type=float, default=20, help="longest wait for a quiet machine (20 s)")
    add("--note", default="", help="what explains the figures, for the result file")
    add("--try", dest="is_trial", action="store_true", help="write no result file")
    return parser


async def _measure(arguments: argparse.Namespace) -> int:
    started = perf_counter()
    quiet = await quiet_moment(patience_seconds=arguments.patience)
    rounds: list[Round] = []
    async with a_pair() as pair:
        for number in range(1, arguments.rounds + 1):
            rounds.append(await measured(pair, number))
            print(f"{perf_counter() - started:5.0f} s  round {number} of {arguments.rounds}")
    figures = figures_of(rounds)
    targets = targets_of(figures)
    for name, value in figures.items():
        held = targets.get(name)
        bound = f"  {held.bound}: {'holds' if held.holds else 'MISSED'}" if held else ""
        print(f"  {name:44} {value:>10,}{bound}")
    if not arguments.is_trial:
        busy = f"Before it other processes used {quiet.busy_cores:.2f} cores."
        print(f"wrote {_result(arguments, figures, rounds, f'{busy} {arguments.note}').write()}")
    return 0


def figures_of(rounds: Sequence[Round]) -> dict[str, float]:
    """What is added is the difference within a round, straight and through taking turns."""
    added = [
        {
            f"p{percent}": one[f"router_p{percent}_milliseconds"]
            - one[f"direct_p{percent}_milliseconds"]
            for percent in (50, 99)
        }
        for one in rounds
    ]
    return {
        "router_added_milliseconds_p50": middle(added, "p50"),
        "router_added_milliseconds_p99": middle(added, "p99"),
        "router_requests_per_second_per_core": middle(rounds, "requests_per_cpu_second"),
        "router_requests_per_second": middle(rounds, "requests_per_second"),
        "router_microseconds_per_streamed_event": middle(rounds, "microseconds_per_event"),
        "router_resident_megabytes": middle(rounds, "resident_megabytes"),
    }


def targets_of(figures: dict[str, float]) -> dict[str, Target]:
    return {
        name: Target(bound=bound.text, holds=bound.holds(figures[name]))
        for name, bound in BOUNDS.items()
    }


def _result(
    arguments: argparse.Namespace, figures: dict[str, float], rounds: Sequence[Round], note: str
) -> Result:
    return Result(
        bench="router",
        command=f"python -m bench.router --rounds {arguments.rounds}",
        software=versions(_SOFTWARE),
        figures=figures,
        targets=targets_of(figures),
        rounds=[
            {
                name: round(value, 4) if isinstance(value, float) else value
                for name, value in one.items()
            }
            for one in rounds
        ],
        note=note.strip(),
    )


if __name__ == "__main__":
    sys.exit(main())
