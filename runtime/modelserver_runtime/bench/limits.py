"""How near a server is to what its machine allows; pure.

The least time that the answers need: each token of a prompt at the fastest rate of products; of
the answers, step by step, the longer of reading all weights and of multiplying for all that are
asked at once, again at the fastest rate. Rates of few rows are those of one library, and not a
limit. What attention, sampling and the network take is not counted, so nobody reaches it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from modelserver_runtime.backends.costs import MachineLimits, TokenCost


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What was computed: `prompt_tokens` without those that were known, in `requests`."""

    concurrency: int
    requests: int
    prompt_tokens: int
    generated_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearness:
    """`share` of the server's time would be enough, were the machine's limits reached."""

    limits: MachineLimits
    cost: TokenCost
    allowed_seconds: float
    allowed_tokens_per_second: float
    share: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def nearness(limits: MachineLimits, cost: TokenCost, load: Load, seconds: float) -> Nearness:
    """`seconds` are those that the server took for the load."""
    allowed = allowed_seconds(limits, cost, load)
    return Nearness(
        limits=limits,
        cost=cost,
        allowed_seconds=allowed,
        allowed_tokens_per_second=load.generated_tokens / allowed,
        share=allowed / seconds,
    )


def allowed_seconds(limits: MachineLimits, cost: TokenCost, load: Load) -> float:
    """Of prompts and answers, one after the other; the prompt's step gives the first token."""
    of_prompts = load.prompt_tokens * cost.operations + load.requests * cost.head_operations
    later_tokens = max(0, load.generated_tokens - load.requests)
    steps = later_tokens / load.concurrency
    of_steps = steps * step_seconds(limits, cost, load.concurrency)
    return of_prompts / limits.most_operations_per_second + of_steps


def step_seconds(limits: MachineLimits, cost: TokenCost, rows: int) -> float:
    """Of one token for each of `rows` sequences."""
    reading = cost.weight_bytes / limits.bytes_per_second
    operations = rows * (cost.operations + cost.head_operations)
    return max(reading, operations / limits.most_operations_per_second)


def lines(found: Nearness, concurrency: int) -> Iterator[str]:
    limits = found.limits
    rates = ", ".join(
        f"{rate / 1e9:.0f} at {rows}" for rows, rate in sorted(limits.products.items())
    )
    yield (
        f"this machine, {limits.threads} threads: reads {limits.bytes_per_second / 1e9:.1f} GB/s, "
        f"multiplies {limits.dtype} with GFLOP/s by rows: {rates}"
    )
    alone = 1 / step_seconds(limits, found.cost, 1)
    together = concurrency / step_seconds(limits, found.cost, concurrency)
    yield (
        f"a step reads {found.cost.weight_bytes / 1e6:.0f} MB of weights: at most {alone:.0f} "
        f"tokens/s for one answer, {together:.0f} for {concurrency} at once"
    )
    yield (
        f"with these prompts at most {found.allowed_tokens_per_second:.0f} tokens/s; "
        f"the server reached {found.share:.0%} of it"
    )


def cost_of(models: Mapping[str, Any], name: str) -> tuple[TokenCost, int] | None:
    """What `GET /models` says of the model's tokens, and its threads; None if it says nothing.

    Without a name it is the first model, as it is for who asks without one.
    """
    for report in models.get("models", ()):
        loaded = report.get("loaded") or {}
        names = ("", report["name"], *report["aliases"])
        if name in names and loaded.get("token_cost"):
            return TokenCost(**loaded["token_cost"]), int(loaded["threads"])
    return None
