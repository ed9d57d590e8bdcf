"""`python -m bench.runtime`: how fast the runtime answers, beside its peers, in one run.

A Llama of 125 million random parameters in bf16 is served by each engine on this machine:

  ours                                    modelserver-runtime serve, OpenAI chat route, streaming
  generate                                model.generate() on static batches, in a process of its
                                          own without HTTP: the best case of a static batch
  transformers_serve                      transformers serve (one request after another), same route
  transformers_serve_continuous_batching  transformers serve --continuous-batching, same route

All engines run at the same time, one of them is asked at a time, in rounds that begin with another
engine each; a figure is the median of its rounds. Nothing is left out: a request that fails is
counted, and what other processes of the machine used is written beside every measurement.
"""

import argparse
import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from statistics import median
from time import perf_counter
from typing import Any

from bench.command_line import count, run_benchmark
from bench.results_file import Result, versions
from bench.serving import figures, words
from bench.serving.answers import Load
from bench.serving.engines import (
    Engine,
    EngineFailed,
    engine_environment,
    engine_starters,
    log_of,
)
from bench.serving.judging import judge
from bench.serving.measurement import Measurement, Subject, measure
from bench.serving.model_folder import SEED, is_complete, model_folder
from bench.serving.peer_environment import peer_versions
from bench.serving.processes import QUIET_CORES, peak_memory_megabytes

_SOFTWARE = ("torch", "transformers", "tokenizers", "fastapi", "uvicorn")
_LEAST_REQUESTS = 3  # of one measurement; otherwise as many as are asked at the same time
_WARM_UP_TOKENS = 4


def main() -> int:
    arguments = _parser().parse_args()
    return run_benchmark(_Benchmark(arguments).run(), EngineFailed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.runtime",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rounds", type=count, default=3, help="repetitions (3)")
    add("--minutes", type=float, default=10, help="no round begins that would end later (10)")
    add("--concurrency", type=count, nargs="+", default=[1, 8, 32], metavar="N", help="(1 8 32)")
    add(
        "--only",
        nargs="+",
        choices=list(engine_starters()),
        metavar="ENGINE",
        help="measure these engines; a result file is written only for all of them",
    )
    add("--prompt-tokens", type=_prompt_length, default=128, help="length of each prompt (128)")
    add("--output-tokens", type=count, default=64, help="length of each answer (64)")
    add("--seconds", type=float, default=180, help="longest time of one measurement (180)")
    add(
        "--patience",
        type=float,
        default=20,
        metavar="SECONDS",
        help="longest wait for a quiet machine before each measurement (20)",
    )
    add(
        "--openmp-wait",
        choices=("passive", "active", "unset"),
        default="passive",
        help="OMP_WAIT_POLICY of every engine (passive): threads that spin, as they do when it is "
        "unset, are a fifth faster on an idle machine and many times slower on a busy one",
    )
    add("--note", default="", help="what explains the figures, for the result file")
    return parser


def _prompt_length(text: str) -> int:
    least = words.CHAT_TOKENS + 1
    if count(text) < least:
        raise argparse.ArgumentTypeError(f"{text} is too short: the chat template needs {least}")
    return int(text)


class _Benchmark:
    """One run, from the model's files to the result file."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._started = perf_counter()
        wait = arguments.openmp_wait
        policy = {} if wait == "unset" else {"OMP_WAIT_POLICY": wait}
        self._environment = engine_environment(**policy)

    async def run(self) -> int:
        if not is_complete(model_folder()):
            self._say(f"making the model in {model_folder()}")
            await asyncio.to_thread(_make_model)
        async with contextlib.AsyncExitStack() as stack:
            engines = await self._start(stack)
            measurements = await self._rounds(engines)
            about_engines = _about(engines)
        self._say("judging the answers of the first round")
        verdicts = await judge(measurements, self._environment)
        found = {
            **figures.speed_figures(measurements),
            **figures.correctness_figures(verdicts),
            **figures.equality_figures(measurements),
            **figures.failure_figures(measurements),
            **about_engines,
        }
        self._finish(found, measurements)
        return 1 if any(one.failures for one in measurements) else 0

    async def _start(self, stack: contextlib.AsyncExitStack) -> dict[str, Engine]:
        """One after another, so that none disturbs the start of another."""
        engines: dict[str, Engine] = {}
        for name, start in engine_starters().items():
            if name in (self._arguments.only or [name]):
                self._say(f"{name}: starting")
                engines[name] = await stack.enter_async_context(
                    start(model_folder(), self._environment)
                )
                self._say(f"{name}: ready after {engines[name].start_seconds:.1f} s, warming up")
                await self._warm_up(name, engines[name])
        return engines

    async def _warm_up(self, name: str, engine: Engine) -> None:
        """Short answers at each concurrency: what is made at the first request is made now."""
        for concurrency in self._arguments.concurrency:
            messages = self._messages(concurrency, seed=SEED + concurrency)
            answers = await engine.answer(messages, self._load(concurrency, _WARM_UP_TOKENS))
            if failures := [answer.failure for answer in answers if answer.failure]:
                raise EngineFailed(f"{name} does not answer: {failures[0]}; see {log_of(name)}")

    async def _rounds(self, engines: Mapping[str, Engine]) -> list[Measurement]:
        measurements: list[Measurement] = []
        longest = 0.0
        for number in range(1, self._arguments.rounds + 1):
            began = self._elapsed()
            if number > 1 and began + longest > 60 * self._arguments.minutes:
                self._say(f"round {number} is left out: it would end after --minutes")
                break
            measurements += await self._round(number, engines)
            longest = max(longest, self._elapsed() - began)
        return measurements

    async def _round(self, number: int, engines: Mapping[str, Engine]) -> list[Measurement]:
        names = list(engines)
        first = (number - 1) % len(names)
        measurements = []
        for concurrency in self._arguments.concurrency:
            count = max(_LEAST_REQUESTS, concurrency)
            messages = self._messages(count, seed=1000 * number + concurrency)
            load = self._load(concurrency, self._arguments.output_tokens)
            for name in names[first:] + names[:first]:
                subject = Subject(engine=name, concurrency=concurrency, round=number)
                one = await measure(
                    engines[name], messages, subject, load, patience=self._arguments.patience
                )
                self._say(_progress(one))
                measurements.append(one)
        return measurements

    def _messages(self, count: int, *, seed: int) -> Sequence[str]:
        return words.messages(count, prompt_tokens=self._arguments.prompt_tokens, seed=seed)

    def _load(self, concurrency: int, output_tokens: int) -> Load:
        limit = self._arguments.seconds
        return Load(concurrency=concurrency, output_tokens=output_tokens, limit_seconds=limit)

    def _finish(self, found: Mapping[str, float], measurements: Sequence[Measurement]) -> None:
        for name, value in found.items():
            print(f"  {name:72} {value:>10,}")
        if self._arguments.only:
            print("no result file: not all engines were measured")
            return
        result = Result(
            bench="runtime",
            command=" ".join(["python -m bench.runtime", *_flags()]),
            software=versions(_SOFTWARE) | peer_versions(),
            figures=found,
            rounds=[one.as_round() for one in measurements],
            peers=list(engine_starters()),
            note=f"{self._conditions(measurements)} {self._arguments.note}".strip(),
        )
        self._say(f"wrote {result.write()}")

    def _conditions(self, measurements: Sequence[Measurement]) -> str:
        """What was asked, and how quiet the machine was."""
        arguments = self._arguments
        return (
            f"Prompts of {arguments.prompt_tokens} tokens, answers of {arguments.output_tokens}, "
            f"greedy; one measurement has as many requests as it asks at a time, at least "
            f"{_LEAST_REQUESTS}. Medians of {max(one.round for one in measurements)} rounds. "
            f"OMP_WAIT_POLICY of all engines: {arguments.openmp_wait}. "
            f"{_disturbance(measurements)}"
        )

    def _elapsed(self) -> float:
        return perf_counter() - self._started

    def _say(self, text: str) -> None:
        print(f"{self._elapsed():5.0f} s  {text}", flush=True)


def _make_model() -> None:
    command = [sys.executable, "-m", "bench.serving.model", str(model_folder())]
    subprocess.run(command, check=True)


def _about(engines: Mapping[str, Engine]) -> dict[str, float]:
    return {
        **figures.per_engine("start_seconds", {n: e.start_seconds for n, e in engines.items()}),
        **figures.per_engine(
            "peak_rss_megabytes", {n: peak_memory_megabytes(e.pid) for n, e in engines.items()}
        ),
    }


def _progress(one: Measurement) -> str:
    numbers: dict[str, Any] = one.numbers()
    speed = (
        f"{numbers['tokens_per_second']:7.1f} tokens/s, first token after "
        f"{numbers['first_token_milliseconds']:7.0f} ms"
        if numbers
        else "nothing"
    )
    failed = f", {len(one.failures)} failed: {one.failures[0]}" if one.failures else ""
    quiet = f"(others use {one.others_busy_cores:.2f} cores)"
    return (
        f"round {one.round}, {one.concurrency:2} at a time, {one.engine}: {speed} {quiet}{failed}"
    )


def _disturbance(measurements: Sequence[Measurement]) -> str:
    disturbed = [one for one in measurements if one.is_disturbed]
    others = [one.others_busy_cores for one in measurements]
    unavoidable = [one for one in figures.without_disturbed(measurements) if one.is_disturbed]
    return (
        f"Other processes used {median(others):.2f} cores meanwhile (median; at most "
        f"{max(others):.2f}): {len(disturbed)} of {len(measurements)} measurements were disturbed "
        f"by more than {QUIET_CORES} cores and count only where there is no other, which is so "
        f"for {len(unavoidable)} of them."
    )


def _flags() -> list[str]:
    """The command line without the note."""
    shown = list(sys.argv[1:])
    if "--note" in shown:
        position = shown.index("--note")
        del shown[position : position + 2]
    return shown


if __name__ == "__main__":
    sys.exit(main())
