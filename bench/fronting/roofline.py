"""`python -m bench.fronting.roofline`: what this machine computes and reads at most, as JSON.

No batch is computed faster than that. What one request gains by the others of its batch is at most
the distance from this limit to what it takes alone.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from bench.fronting.folders import Ability, Kind

# Rows, columns and depth: a large matrix, and that of a batch of 32 texts in an encoder's layer.
_SHAPES = ((2048, 2048, 2048), (1024, 3072, 768))
_READ_BYTES = 1 << 30
_SECONDS = 1.0
_VOCABULARY = 32_000
_GENERATED_BYTES = 2  # bf16
_ENCODED_BYTES = 4  # float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Tokens of one request; an encoder has no `output_tokens`."""

    text_tokens: int
    output_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """Of all the threads that torch uses."""

    float32_gflops: float
    bfloat16_gflops: float
    read_gigabytes_per_second: float

    def requests_per_second(self, kind: Kind, load: Load, *, batch: int) -> float:
        """Of full batches: first all texts, then, while it generates, a token of each at a time."""
        first = self._seconds(kind, tokens=batch * load.text_tokens)
        following = max(0, load.output_tokens - 1) * self._seconds(kind, tokens=batch)
        return batch / (first + following)

    def _seconds(self, kind: Kind, *, tokens: int) -> float:
        """Each weight is read once, and computed with for every token."""
        parameters = _parameters_read(kind)
        is_generating = kind.ability is Ability.GENERATION
        gflops = self.bfloat16_gflops if is_generating else self.float32_gflops
        width = _GENERATED_BYTES if is_generating else _ENCODED_BYTES
        computing = 2 * parameters * tokens / (gflops * 1e9)
        reading = width * parameters / (self.read_gigabytes_per_second * 1e9)
        return max(computing, reading)


def _parameters_read(kind: Kind) -> int:
    """Of the layers, and of the output layer where there is one; a row of embeddings is nothing."""
    size = kind.size
    layers = size.layers * (4 * size.hidden**2 + 2 * size.hidden * size.inner)
    has_output_layer = kind.ability is Ability.GENERATION
    return layers + (size.hidden * _VOCABULARY if has_output_layer else 0)


def best_of(found: Sequence[Roofline]) -> Roofline:
    """A limit is what was reached, not what is usual."""
    return Roofline(
        **{name: max(getattr(one, name) for one in found) for name in Roofline.__slots__}
    )


async def measure_roofline() -> Roofline:
    """In a process of its own, so that the benchmark itself never imports torch."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.fronting.roofline", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"bench.fronting.roofline ended with {process.returncode}")
    return Roofline(**json.loads(output))


def main() -> int:
    import torch  # noqa: PLC0415  the classes above are for processes without it

    def gflops(dtype: Any) -> float:
        return max(gflops_of(dtype, *shape) for shape in _SHAPES)

    def gflops_of(dtype: Any, rows: int, columns: int, depth: int) -> float:
        left, right = torch.rand(rows, depth).to(dtype), torch.rand(depth, columns).to(dtype)
        return 2 * rows * columns * depth / _fastest(lambda: left @ right) / 1e9

    numbers = torch.ones(_READ_BYTES // 4)
    found = Roofline(
        float32_gflops=round(gflops(torch.float32), 1),
        bfloat16_gflops=round(gflops(torch.bfloat16), 1),
        read_gigabytes_per_second=round(_READ_BYTES / _fastest(numbers.sum) / 1e9, 2),
    )
    print(json.dumps({name: getattr(found, name) for name in Roofline.__slots__}))
    return 0


def _fastest(work: Callable[[], object]) -> float:
    """Seconds of the best of the repetitions."""
    work()
    began, best = perf_counter(), float("inf")
    while perf_counter() - began < _SECONDS:
        before = perf_counter()
        work()
        best = min(best, perf_counter() - before)
    return best


if __name__ == "__main__":
    sys.exit(main())
