"""From measurements to the named figures of the result file."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

from bench.serving.answers import succeeded
from bench.serving.engines import GENERATE
from bench.serving.judging import Verdict
from bench.serving.measurement import Measurement


def speed_figures(measurements: Sequence[Measurement]) -> dict[str, float]:
    """The median of the rounds for each number, concurrency and engine, in this order."""
    values: dict[tuple[str, int, str], list[float]] = defaultdict(list)
    for one in without_disturbed(measurements):
        for number, value in one.numbers().items():
            values[number, one.concurrency, one.engine].append(value)
    numbers = list(dict.fromkeys(number for number, _, _ in values))
    in_order = sorted(values, key=lambda key: (numbers.index(key[0]), key[1]))
    return {
        f"{number}_c{concurrency}_{engine}": rounded(median(values[number, concurrency, engine]))
        for number, concurrency, engine in in_order
    }


def without_disturbed(measurements: Sequence[Measurement]) -> list[Measurement]:
    """Disturbed ones count only for an engine and concurrency that has no other."""
    quiet = {(one.engine, one.concurrency) for one in measurements if not one.is_disturbed}
    return [
        one
        for one in measurements
        if not one.is_disturbed or (one.engine, one.concurrency) not in quiet
    ]


def failure_figures(measurements: Sequence[Measurement]) -> dict[str, int]:
    engines = dict.fromkeys(measurement.engine for measurement in measurements)
    return {
        f"failed_requests_{engine}": sum(
            len(one.failures) for one in measurements if one.engine == engine
        )
        for engine in engines
    }


def equality_figures(measurements: Sequence[Measurement]) -> dict[str, float]:
    """The share of answers that are, token by token, those of `generate` to the same message."""
    same: dict[str, list[bool]] = defaultdict(list)
    expected = {
        (one.concurrency, answer.message): answer.token_ids
        for one in measurements
        if one.engine == GENERATE
        for answer in succeeded(one.answers)
    }
    for one in measurements:
        for answer in succeeded(one.answers):
            known = expected.get((one.concurrency, answer.message))
            if known and one.engine != GENERATE:
                same[one.engine].append(known == answer.token_ids)
    return {
        f"answers_equal_to_generate_percent_{engine}": rounded(100 * sum(hits) / len(hits))
        for engine, hits in same.items()
    }


def correctness_figures(verdicts: Mapping[str, Verdict]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for engine, verdict in verdicts.items():
        figures[f"tokens_right_percent_{engine}"] = rounded(100 * verdict.near / verdict.tokens)
    for engine, verdict in verdicts.items():
        figures[f"tokens_most_likely_percent_{engine}"] = rounded(
            100 * verdict.best / verdict.tokens
        )
    return figures


def per_engine(name: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{name}_{engine}": rounded(value) for engine, value in values.items()}


def rounded(value: float) -> float:
    """Four digits, which is more than the repetitions agree in."""
    return float(f"{value:.4g}")
