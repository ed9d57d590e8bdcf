"""One engine under one load: what is measured, and the numbers it becomes; pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import quantiles
from typing import Any

from bench.generating.workload import Question
from bench.serving.answers import Answer
from bench.serving.measurement import Usage
from bench.serving.processes import QUIET_CORES

ARRIVALS = "poisson"


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A request is good if its first token came in time, and the others on average, too."""

    first_token_seconds: float = 1.0
    token_seconds: float = 0.1

    def is_met(self, answer: Answer) -> bool:
        return (
            answer.first_token_seconds <= self.first_token_seconds
            and answer.seconds_per_token <= self.token_seconds
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """`load`: c8 for eight at a time, or ARRIVALS."""

    model: str
    engine: str
    load: str
    round: int
    questions: Sequence[Question]
    answers: Sequence[Answer]
    usage: Usage
    streams: bool = True

    @property
    def is_disturbed(self) -> bool:
        return self.usage.others_busy_cores > QUIET_CORES

    @property
    def good(self) -> list[Answer]:
        return [answer for answer in self.answers if not answer.failure]

    @property
    def failures(self) -> list[str]:
        return [answer.failure for answer in self.answers if answer.failure]

    @property
    def output_tokens(self) -> int:
        return sum(len(answer.token_ids) for answer in self.good)

    @property
    def prompt_tokens(self) -> int:
        """Of those that were answered."""
        both = zip(self.questions, self.answers, strict=True)
        return sum(question.prompt_tokens for question, answer in both if not answer.failure)

    def numbers(self, objective: Objective) -> dict[str, float]:
        """Empty if no request succeeded; without a stream nothing is known between tokens."""
        if not self.good:
            return {}
        seconds, tokens = self.usage.seconds, self.output_tokens
        first = [1000 * answer.first_token_seconds for answer in self.good]
        met = sum(objective.is_met(answer) for answer in self.good)
        return {
            "tokens_per_second": tokens / seconds,
            "total_tokens_per_second": (tokens + self.prompt_tokens) / seconds,
            "first_token_milliseconds_p50": percentile(first, 50),
            "first_token_milliseconds_p99": percentile(first, 99),
            **(self._between() if self.streams else {}),
            "goodput_requests_per_second": met / seconds,
            "cpu_seconds_per_1000_tokens": 1000 * self.usage.engine_cpu_seconds / tokens,
        }

    def _between(self) -> dict[str, float]:
        gaps = [1000 * gap for answer in self.good for gap in _gaps(answer)]
        if not gaps:
            return {}
        return {
            "between_pieces_milliseconds_p50": percentile(gaps, 50),
            "between_pieces_milliseconds_p99": percentile(gaps, 99),
        }

    def as_round(self, objective: Objective) -> dict[str, Any]:
        """For the result file: the numbers, and every request."""
        usage = self.usage
        return {
            "part": "text",
            "model": self.model,
            "engine": self.engine,
            "load": self.load,
            "round": self.round,
            **{name: round(value, 3) for name, value in self.numbers(objective).items()},
            "output_tokens": self.output_tokens,
            "prompt_tokens": self.prompt_tokens,
            "seconds": round(usage.seconds, 3),
            "engine_cpu_seconds": round(usage.engine_cpu_seconds, 3),
            "client_cpu_seconds": round(usage.client_cpu_seconds, 3),
            "others_busy_cores": round(usage.others_busy_cores, 2),
            "busy_cores_before": usage.before.busy_cores,
            "failures": self.failures,
            # Prompt tokens, answered tokens, seconds to the first and to the last.
            "requests": [
                [
                    question.prompt_tokens,
                    len(answer.token_ids),
                    round(answer.first_token_seconds, 4),
                    round(answer.total_seconds, 4),
                ]
                for question, answer in zip(self.questions, self.answers, strict=True)
            ],
        }


def percentile(values: Sequence[float], percent: int) -> float:
    """Interpolated; the only value where there is but one."""
    if len(values) == 1:
        return values[0]
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def undisturbed(measured: Iterable[Measured]) -> list[Measured]:
    """Disturbed ones count only for an engine and load that has no other."""
    given = list(measured)
    quiet = {(it.model, it.engine, it.load) for it in given if not it.is_disturbed}
    return [
        it for it in given if not it.is_disturbed or (it.model, it.engine, it.load) not in quiet
    ]


def _gaps(answer: Answer) -> list[float]:
    return [later - earlier for earlier, later in pairwise(answer.arrivals)]
