"""`python -m bench.fronting.roofline`: what this machine computes and reads at most, as JSON.

A batch of 32 can only be faster than 32 single computations where reading the weights takes longer
than computing with them; how much faster is decided by these numbers, and not by any server.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from bench.fronting.folders import Ability, Kind

_MATRIX = 2048
_READ_BYTES = 1 << 30
_SECONDS = 1.0
_VOCABULARY = 32_000
_GENERATED_BYTES = 2  # bf16
_ENCODED_BYTES = 4  # float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """Of all the threads that torch uses."""

    float32_gflops: float
    bfloat16_gflops: float
    read_gigabytes_per_second: float

    def limit(self, kind: Kind, *, tokens: int, batch: int) -> float:
        """How much faster a batch can be than its items one by one.

        `tokens` are those that one item computes together: its text, or 1 while it generates.
        """
        parameters = _parameters_read(kind)
        is_generating = kind.ability is Ability.GENERATION
        gflops = self.bfloat16_gflops if is_generating else self.float32_gflops
        width = _GENERATED_BYTES if is_generating else _ENCODED_BYTES
        computing = 2 * parameters * tokens / (gflops * 1e9)
        reading = width * parameters / (self.read_gigabytes_per_second * 1e9)
        return max(computing, reading) / max(computing, reading / batch)


def _parameters_read(kind: Kind) -> int:
    """Of the layers, and of the output layer where there is one; a row of embeddings is nothing."""
    size = kind.size
    layers = size.layers * (4 * size.hidden**2 + 2 * size.hidden * size.inner)
    has_output_layer = kind.ability is Ability.GENERATION
    return layers + (size.hidden * _VOCABULARY if has_output_layer else 0)


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
        left, right = (torch.rand(_MATRIX, _MATRIX).to(dtype) for _ in range(2))
        return 2 * _MATRIX**3 / _fastest(lambda: left @ right) / 1e9

    numbers = torch.ones(_READ_BYTES // 4)
    found = Roofline(
        float32_gflops=round(gflops(torch.float32), 1),
        bfloat16_gflops=round(gflops(torch.bfloat16), 1),
        read_gigabytes_per_second=round(_READ_BYTES / _fastest(numbers.sum) / 1e9, 2),
    )
    print(json.dumps({name: getattr(found, name) for name in Roofline.__slots__}))
    return 0


def _fastest(work: Callable[[], object]) -> float:
    """Seconds of the best of the repetitions: a limit is what was reached, not what is usual."""
    work()
    began, best = perf_counter(), float("inf")
    while perf_counter() - began < _SECONDS:
        before = perf_counter()
        work()
        best = min(best, perf_counter() - before)
    return best


if __name__ == "__main__":
    sys.exit(main())
