"""One engine at one concurrency: what is measured, and the numbers it becomes."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from statistics import median
from time import perf_counter, process_time
from typing import Any

from bench.serving.answers import Answer, Load, succeeded
from bench.serving.engines import Engine
from bench.serving.processes import (
    QUIET_CORES,
    Quietness,
    cpu_seconds,
    machine_cpu_seconds,
    quiet_moment,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Which measurement it is."""

    engine: str
    concurrency: int
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement(Subject):
    """`others_busy_cores` is what neither the engine nor the client used meanwhile."""

    answers: Sequence[Answer]
    seconds: float
    engine_cpu_seconds: float
    client_cpu_seconds: float
    others_busy_cores: float
    before: Quietness

    @property
    def is_disturbed(self) -> bool:
        return self.others_busy_cores > QUIET_CORES

    @property
    def output_tokens(self) -> int:
        """Of the answers that count."""
        return sum(len(answer.token_ids) for answer in succeeded(self.answers))

    @property
    def failures(self) -> list[str]:
        return [answer.failure for answer in self.answers if answer.failure]

    def numbers(self) -> dict[str, float]:
        """The figures of this measurement; empty if no request succeeded."""
        answers = succeeded(self.answers)
        if not answers:
            return {}
        return {
            "tokens_per_second": self.output_tokens / self.seconds,
            "first_token_milliseconds": 1000 * median(a.first_token_seconds for a in answers),
            "milliseconds_per_token": 1000 * median(a.seconds_per_token for a in answers),
            "cpu_seconds_per_1000_tokens": 1000 * self.engine_cpu_seconds / self.output_tokens,
        }

    def as_round(self) -> dict[str, Any]:
        """For the result file."""
        return {
            "round": self.round,
            "engine": self.engine,
            "concurrency": self.concurrency,
            "requests": len(self.answers),
            "failures": self.failures,
            "output_tokens": self.output_tokens,
            "seconds": round(self.seconds, 3),
            **{name: round(value, 3) for name, value in self.numbers().items()},
            "client_cpu_seconds": round(self.client_cpu_seconds, 3),
            "others_busy_cores": round(self.others_busy_cores, 2),
            "load_average_before": self.before.load_average,
            "busy_cores_before": self.before.busy_cores,
            "waited_seconds_before": self.before.waited_seconds,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a piece of work took; `others_busy_cores` is what neither engine nor client used."""

    seconds: float
    engine_cpu_seconds: float
    client_cpu_seconds: float
    others_busy_cores: float
    before: Quietness


async def used[T](
    pid: int, work: Callable[[], Awaitable[T]], *, patience: float
) -> tuple[T, Usage]:
    """Waits at most `patience` seconds for a quiet machine, then measures whatever it finds."""
    before = await quiet_moment(patience_seconds=patience)
    machine, own, client = machine_cpu_seconds(), cpu_seconds(pid), process_time()
    started = perf_counter()
    result = await work()
    seconds = perf_counter() - started
    client_cpu = process_time() - client
    engine_cpu = cpu_seconds(pid) - own
    others = machine_cpu_seconds() - machine - engine_cpu - client_cpu
    return result, Usage(
        seconds=seconds,
        engine_cpu_seconds=engine_cpu,
        client_cpu_seconds=client_cpu,
        others_busy_cores=max(0.0, others / seconds),
        before=before,
    )


async def measure(
    engine: Engine, messages: Sequence[str], subject: Subject, load: Load, *, patience: float
) -> Measurement:
    """One engine at one concurrency."""
    answers, usage = await used(
        engine.pid, partial(engine.answer, messages, load), patience=patience
    )
    numbers = {part.name: getattr(usage, part.name) for part in fields(usage)}
    return Measurement(**asdict(subject), answers=answers, **numbers)
