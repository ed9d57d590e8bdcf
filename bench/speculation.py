"""`python -m bench.speculation`: tokens a second with and without guessing them, in one process.

The Llama of random weights that `bench.runtime` serves, without HTTP, greedy unless said otherwise.
What it says depends on everything before, so that texts for it to repeat cannot be made up; but its
own answers are known, and a client can predict them: rightly, with every tenth token another one,
or not at all. With a temperature of 1 nothing can be guessed: that is what guessing costs.

Both ways take turns. A figure is the median of its rounds, a ratio that of the rounds' ratios.
Steps and rows are counted too: they say what guesses bring where the machine does other things.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.command_line import count
from bench.results_file import Result, versions
from bench.serving.model_folder import is_complete, model_folder
from modelserver_runtime.artifacts import Phase, Progress
from modelserver_runtime.backends.base import SamplingParameters, SequenceSpec, Work
from modelserver_runtime.backends.detection import identify
from modelserver_runtime.backends.loading import LoadOptions
from modelserver_runtime.backends.native.language_model import NativeLanguageModel
from modelserver_runtime.backends.registry import load_model

PROMPT_TOKENS = 128
ANSWER_TOKENS = 96
AT_A_TIME = (1, 8)
_SAMPLING = SamplingParameters(max_tokens=ANSWER_TOKENS, temperature=0, ignore_end=True)
_SOFTWARE = ("torch", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Of a prediction one token in `changed_every` is wrong (0: none, None: nothing predicted)."""

    name: str
    changed_every: int | None = None
    temperature: float = 0.0

    def specs(self, answers: Sequence[Sequence[int]]) -> list[SequenceSpec]:
        return [
            SequenceSpec(
                sequence_id=index,
                prompt_token_ids=prompt_of(index),
                sampling=replace(_SAMPLING, temperature=self.temperature, seed=index),
                prediction=self._predicted(answer),
            )
            for index, answer in enumerate(answers)
        ]

    def _predicted(self, answer: Sequence[int]) -> tuple[int, ...]:
        if self.changed_every is None:
            return ()
        every = self.changed_every
        return tuple(
            token_id + 1 if every and at % every == every - 1 else token_id
            for at, token_id in enumerate(answer)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """`seconds` and `steps` after the first tokens; `wrong` rows were computed in vain."""

    answers: list[list[int]]
    seconds: float
    steps: int
    wrong: int


GREEDY = Case(name="greedy")
CASES = (
    Case(name="predicted", changed_every=0),
    Case(name="edited", changed_every=10),
    GREEDY,
    Case(name="sampled", temperature=1.0),
)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.speculation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=count, default=5, help="repetitions (5)")
    parser.add_argument("--most", type=count, default=8, help="tokens that are guessed at once (8)")
    arguments = parser.parse_args()
    backend = _loaded()
    rounds = [_round(backend, arguments.most) for _ in range(arguments.rounds)]
    figures = {
        name: round(statistics.median(each[name] for each in rounds), 2) for name in rounds[0]
    }
    for name, value in figures.items():
        print(f"  {name:40} {value:>10,}")
    result = Result(
        bench="speculation",
        command=f"python -m bench.speculation --rounds {arguments.rounds} --most {arguments.most}",
        software=versions(_SOFTWARE),
        figures=figures,
        rounds=rounds,
    )
    print(f"wrote {result.write()}")
    return 0


def _loaded() -> NativeLanguageModel:
    folder: Path = model_folder()
    if not is_complete(folder):
        subprocess.run([sys.executable, "-m", "bench.serving.model", folder], check=True)
    options = LoadOptions(directory=folder, name="llama")
    progress = Progress(phase=Phase.LOADING, clock=time.monotonic)
    backend = load_model(options, identify(folder, "Auto"), progress).backend
    if not isinstance(backend, NativeLanguageModel):
        raise SystemExit("this machine cannot run the native engine; see engine_reason of /models")
    return backend


def _round(backend: NativeLanguageModel, most: int) -> dict[str, float]:
    figures = {}
    for together in AT_A_TIME:
        answers = _generate(backend, GREEDY.specs([()] * together), 0).answers
        for case in CASES:
            specs = case.specs(answers)
            without = _generate(backend, specs, 0)
            guessed = _generate(backend, specs, most)
            if guessed.answers != without.answers:
                raise SystemExit(f"{case.name}: an answer differs when tokens of it are guessed")
            tokens = together * (ANSWER_TOKENS - 1)
            name = f"{case.name}_c{together}"
            figures[f"tokens_per_second_{name}_without"] = tokens / without.seconds
            figures[f"tokens_per_second_{name}_guessed"] = tokens / guessed.seconds
            figures[f"ratio_{name}"] = without.seconds / guessed.seconds
            figures[f"tokens_per_step_{name}"] = tokens / guessed.steps
            figures[f"rows_per_token_{name}"] = 1 + guessed.wrong / tokens
    return figures


def _generate(backend: NativeLanguageModel, specs: Sequence[SequenceSpec], most: int) -> Run:
    backend.speculator.most = most
    answers: list[list[int]] = [[] for _ in specs]
    for spec in specs:
        backend.add(spec)
        [output] = backend.step([Work(sequence_id=spec.sequence_id, tokens=PROMPT_TOKENS)])
        answers[spec.sequence_id].append(output.token_id or 0)
    steps = wrong = 0
    began = time.perf_counter()
    while left := [index for index, own in enumerate(answers) if len(own) < ANSWER_TOKENS]:
        steps += 1
        for output in backend.step([Work(sequence_id=index, tokens=1) for index in left]):
            answers[output.sequence_id].append(output.token_id or 0)
            wrong += output.guess.wrong if output.guess else 0
    seconds = time.perf_counter() - began
    for spec in specs:
        backend.free(spec.sequence_id)
    return Run(answers=answers, seconds=seconds, steps=steps, wrong=wrong)


def prompt_of(index: int) -> tuple[int, ...]:
    """Tokens in no order, others for each sequence."""
    return tuple((7919 * (index + 1) + 104729 * at) % 30_000 + 10 for at in range(PROMPT_TOKENS))


if __name__ == "__main__":
    sys.exit(main())
