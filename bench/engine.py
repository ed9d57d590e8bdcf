"""`python -m bench.engine`: how fast text and embeddings are made, beside every peer, in one run.

  text        a Llama of 30 layers of 576 and random weights, bf16, by ours, vLLM's CPU build,
              llama.cpp, LitServe and transformers serve: prompts of 16 to 512 tokens, answers of 32
              to 128, 1 to 32 at a time and as a Poisson process brings them; and what memory and
              cores of this machine allow for it
  generality  the same questions to GPT-2, a mixture of experts and the quickstart's trained model,
              by ours and transformers serve
  prefix      chats of six turns with a long system prompt, with and without reuse of prefixes
  embeddings  a MiniLM-sized encoder beside infinity, mixed lengths

The peers are installed from PyPI at the first run, each into an environment of its own below the
cache folder; llama.cpp is compiled, which takes ten minutes on two cores. Before an engine is timed
its answers are judged. All are asked the same, in rounds that begin with another engine each; a
figure is the median of its rounds.
"""

import argparse
import sys
from time import perf_counter

from bench.command_line import count, run_benchmark
from bench.fronting.serving import ServerFailed
from bench.generating.engines import choices
from bench.generating.measurement import Objective
from bench.generating.parts import PARTS, Outcome, Setting
from bench.generating.text import Plan
from bench.generating.versions import software
from bench.generating.workload import Lengths
from bench.results_file import Result
from bench.serving.engines import EngineFailed, engine_environment


def main() -> int:
    arguments = _parser().parse_args()
    return run_benchmark(_Benchmark(arguments).run(), (EngineFailed, ServerFailed))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.engine",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rounds", type=count, default=5, help="repetitions (5)")
    add("--minutes", type=float, default=90, help="no round begins that would end later (90)")
    add("--only", nargs="+", choices=list(PARTS), metavar="PART", help="measure these parts")
    add("--engines", nargs="+", choices=list(choices()), metavar="ENGINE", help="only these")
    add("--concurrency", type=count, nargs="+", default=[1, 4, 8, 16, 32], metavar="N")
    add("--requests", type=count, default=2, help="of a measurement, for each at a time (2)")
    add("--rate", type=float, default=2.0, help="requests a second that arrive; 0: none (2)")
    add("--arrivals", type=count, default=40, help="how many arrive in a measurement (40)")
    add("--prompt-tokens", type=count, nargs=2, default=[16, 512], metavar=("LEAST", "MOST"))
    add("--output-tokens", type=count, nargs=2, default=[32, 128], metavar=("LEAST", "MOST"))
    add("--first-token", type=float, default=1.0, help="objective for goodput, in seconds (1)")
    add("--token", type=float, default=0.1, help="objective for each following token (0.1)")
    add("--seconds", type=float, default=300, help="longest time of one measurement (300)")
    add("--patience", type=float, default=20, help="longest wait for a quiet machine (20 s)")
    add(
        "--openmp-wait",
        choices=("passive", "active", "unset"),
        default="passive",
        help="OMP_WAIT_POLICY of engines with libgomp (passive); see bench.runtime",
    )
    add("--note", default="", help="what explains the figures, for the result file")
    return parser


class _Benchmark:
    """One run, from the installation of the peers to the result file."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._started = perf_counter()

    async def run(self) -> int:
        setting = self._setting()
        outcomes = [await PARTS[name](setting) for name in self._arguments.only or PARTS]
        self._finish(outcomes)
        return 1 if any(outcome.failed for outcome in outcomes) else 0

    def _setting(self) -> Setting:
        given = self._arguments
        wait = given.openmp_wait
        policy = {} if wait == "unset" else {"OMP_WAIT_POLICY": wait}
        known = choices()
        engines = {name: known[name] for name in given.engines or known}
        return Setting(
            plan=self._plan(),
            engines=engines,
            environment=engine_environment(**policy),
            say=self._say,
        )

    def _plan(self) -> Plan:
        given = self._arguments
        return Plan(
            rounds=given.rounds,
            concurrency=given.concurrency,
            requests=given.requests,
            arrivals=given.arrivals,
            rate=given.rate,
            lengths=Lengths(prompt=tuple(given.prompt_tokens), output=tuple(given.output_tokens)),
            objective=Objective(first_token_seconds=given.first_token, token_seconds=given.token),
            limit_seconds=given.seconds,
            patience=given.patience,
            until=self._left,
        )

    def _finish(self, outcomes: list[Outcome]) -> None:
        figures = {name: value for one in outcomes for name, value in one.figures.items()}
        targets = {name: target for one in outcomes for name, target in one.targets.items()}
        for name, value in figures.items():
            target = targets.get(name)
            held = f"  {target.bound}: {'holds' if target.holds else 'MISSED'}" if target else ""
            print(f"  {name:64} {value:>12,}{held}")
        if self._arguments.only or self._arguments.engines:
            print("no result file: not all parts and engines were measured")
            return
        result = Result(
            bench="engine",
            command=f"python -m bench.engine {' '.join(_flags())}".strip(),
            software=software(),
            figures=figures,
            targets=targets,
            rounds=[one for outcome in outcomes for one in outcome.rounds],
            peers=list(choices()),
            note=" ".join([*(one.remark for one in outcomes), self._arguments.note]).strip(),
        )
        self._say(f"wrote {result.write()}")

    def _left(self) -> float:
        return 60 * self._arguments.minutes - (perf_counter() - self._started)

    def _say(self, text: str) -> None:
        print(f"{perf_counter() - self._started:6.0f} s  {text}", flush=True)


def _flags() -> list[str]:
    """The command line without the note."""
    shown = list(sys.argv[1:])
    if "--note" in shown:
        position = shown.index("--note")
        del shown[position : position + 2]
    return shown


if __name__ == "__main__":
    sys.exit(main())
