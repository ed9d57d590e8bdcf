"""What many answers say together: percentiles, rates, failures; as a table or as JSON."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from modelserver_runtime.bench.asking import Answer

_PERCENTILES = (50, 90, 99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Milliseconds."""

    mean: float
    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A spread is None where nothing was measured."""

    requests: int
    failed: int
    seconds: float
    requests_per_second: float
    generated_tokens_per_second: float
    prompt_tokens: int
    generated_tokens: int
    time_to_first_token: Spread | None
    inter_token: Spread | None
    whole_answer: Spread | None
    failures: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def summarize(answers: Sequence[Answer], seconds: float) -> Summary:
    """Rates count only whole answers; a failed request is fast, and would make them look good."""
    good = [answer for answer in answers if not answer.failure]
    generated = sum(answer.generated_tokens for answer in good)
    return Summary(
        requests=len(answers),
        failed=len(answers) - len(good),
        seconds=seconds,
        requests_per_second=len(good) / seconds,
        generated_tokens_per_second=generated / seconds,
        prompt_tokens=sum(answer.prompt_tokens for answer in good),
        generated_tokens=generated,
        time_to_first_token=_spread(answer.pieces[0] for answer in good if answer.pieces),
        inter_token=_spread(gap for answer in good for gap in answer.gaps),
        whole_answer=_spread(answer.seconds for answer in good),
        failures=dict(Counter(answer.failure for answer in answers if answer.failure)),
    )


def _spread(seconds: Iterable[float]) -> Spread | None:
    values = sorted(value * 1000 for value in seconds)
    if not values:
        return None
    p50, p90, p99 = (percentile(values, share) for share in _PERCENTILES)
    return Spread(mean=sum(values) / len(values), p50=p50, p90=p90, p99=p99)


def percentile(values: Sequence[float], share: int) -> float:
    """The smallest value that is not below `share` percent of all; `values` are sorted."""
    return values[max(0, -(-len(values) * share // 100) - 1)]


def table(summary: Summary) -> Iterator[str]:
    yield f"{summary.requests} requests in {summary.seconds:.1f} s, {summary.failed} failed"
    yield (
        f"{summary.requests_per_second:.2f} requests/s, "
        f"{summary.generated_tokens_per_second:.1f} generated tokens/s "
        f"({summary.prompt_tokens} tokens in, {summary.generated_tokens} out)"
    )
    yield ""
    yield f"{'milliseconds':<22}" + "".join(f"{name:>10}" for name in ("mean", "p50", "p90", "p99"))
    for title, spread in (
        ("time to first token", summary.time_to_first_token),
        ("between tokens", summary.inter_token),
        ("whole answer", summary.whole_answer),
    ):
        if spread is not None:
            numbers = (spread.mean, spread.p50, spread.p90, spread.p99)
            yield f"{title:<22}" + "".join(f"{number:>10.1f}" for number in numbers)
    for reason, count in summary.failures.items():
        yield f"failed {count} times: {reason}"
