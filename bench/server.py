"""`python -m bench.server`: what the server adds to its models, and what it saves them.

  cache     hits and equal requests at once, on a model of 125 million parameters
  batching  the same server with batches and without, at concurrency 32: classification, embeddings
            and generation, each on a MiniLM-sized model and one of 125 million parameters
  overhead  the real server with a model that answers at once: requests per core, time per token
  loading   a model that is in memory against the same model from disk

All models have random weights. Parts come one after another; within a part, what is compared takes
turns in every round. A figure is the median of its rounds.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from time import perf_counter

from bench.command_line import count, run_benchmark
from bench.fronting.batching import Batching
from bench.fronting.cache import Cache
from bench.fronting.loading import Loading
from bench.fronting.overhead import Overhead
from bench.fronting.parts import Part, Round
from bench.fronting.serving import ServerFailed
from bench.results_file import Result, Target, versions
from bench.serving.processes import quiet_moment

PARTS: Mapping[str, Callable[[], Part]] = {
    "cache": Cache,
    "batching": Batching,
    "overhead": Overhead,
    "loading": Loading,
}
_SOFTWARE = ("torch", "transformers", "tokenizers", "fastapi", "uvicorn", "uvloop", "pydantic")


def main() -> int:
    arguments = _parser().parse_args()
    return run_benchmark(_Benchmark(arguments).run(), ServerFailed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.server",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rounds", type=count, default=3, help="repetitions (3)")
    add(
        "--only",
        nargs="+",
        choices=list(PARTS),
        metavar="PART",
        help="measure these parts; a result file is written only for all of them",
    )
    add("--patience", type=float, default=20, help="longest wait for a quiet machine (20 s)")
    add("--note", default="", help="what explains the figures, for the result file")
    return parser


class _Benchmark:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._started = perf_counter()

    async def run(self) -> int:
        figures: dict[str, float] = {}
        targets: dict[str, Target] = {}
        rounds: list[Round] = []
        remarks: list[str] = []
        busy: list[float] = []
        for name in self._arguments.only or PARTS:
            part = PARTS[name]()
            quiet = await quiet_moment(patience_seconds=self._arguments.patience)
            busy.append(quiet.busy_cores)
            measured = await part.measure(self._arguments.rounds, self._say)
            found = part.figures(measured)
            figures |= found
            targets |= targets_of(part, found)
            rounds += measured
            remarks += part.remarks(found)
        remarks.append(
            f"Medians of {self._arguments.rounds} rounds. Before the parts other processes used "
            f"{median(busy):.2f} cores (median; at most {max(busy):.2f})."
        )
        self._finish(figures, targets, rounds, remarks)
        return 0

    def _finish(
        self,
        figures: Mapping[str, float],
        targets: Mapping[str, Target],
        rounds: Sequence[Round],
        remarks: Sequence[str],
    ) -> None:
        for name, value in figures.items():
            target = targets.get(name)
            held = f"  {target.bound}: {'holds' if target.holds else 'MISSED'}" if target else ""
            print(f"  {name:60} {value:>12,}{held}")
        if self._arguments.only:
            print("no result file: not all parts were measured")
            return
        result = Result(
            bench="server",
            command=f"python -m bench.server --rounds {self._arguments.rounds}",
            software=versions(_SOFTWARE),
            figures=figures,
            targets=targets,
            rounds=[_rounded(one) for one in rounds],
            note=" ".join([*remarks, self._arguments.note]).strip(),
        )
        self._say(f"wrote {result.write()}")

    def _say(self, text: str) -> None:
        print(f"{perf_counter() - self._started:5.0f} s  {text}", flush=True)


def targets_of(part: Part, figures: Mapping[str, float]) -> dict[str, Target]:
    return {
        name: Target(bound=bound.text, holds=bound.holds(figures[name]))
        for name, bound in part.bounds.items()
    }


def _rounded(one: Round) -> Round:
    return {k: round(value, 4) if isinstance(value, float) else value for k, value in one.items()}


if __name__ == "__main__":
    sys.exit(main())
