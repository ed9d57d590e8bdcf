"""What this machine allows at best: how fast it reads memory, and how fast it multiplies.

Measured with torch, whose products are those of oneDNN with weights laid out beforehand, in the
dtype that the processor multiplies fastest.
"""

from collections.abc import Callable, Sequence
from itertools import cycle, islice
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from modelserver_runtime.backends.costs import MachineLimits
from modelserver_runtime.backends.hardware_processor import processor_flags

ROWS = (1, 8, 32, 128, 512)
# Larger than the caches of most processors, so that it is memory that is read; in bytes.
_READ_BYTES = 512 << 20
_WEIGHT_BYTES = 128 << 20
# Columns and inputs of a product, as they are in models of a hundred million to a billion weights.
_SHAPES = ((3072, 1024), (1024, 1536))
_REPETITIONS = 5
_FAST_BF16 = {"avx512_bf16", "amx_bf16"}

type Product = Callable[[Tensor], Tensor]


def measure_limits(
    threads: int,
    *,
    rows: Sequence[int] = ROWS,
    shapes: Sequence[tuple[int, int]] = _SHAPES,
) -> MachineLimits:
    """Takes some seconds of all `threads` and 640 MiB; the best of a few repetitions each.

    `shapes` are columns and inputs of the products.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    dtype = torch.bfloat16 if _FAST_BF16 & processor_flags() else torch.float32
    try:
        with torch.inference_mode():
            return MachineLimits(
                threads=threads,
                dtype=str(dtype).removeprefix("torch."),
                bytes_per_second=_bytes_per_second(),
                products={count: _operations(count, shapes, dtype) for count in sorted(rows)},
            )
    finally:
        torch.set_num_threads(before)


def _bytes_per_second() -> float:
    read = torch.ones(_READ_BYTES // 4)
    return _READ_BYTES / _best_seconds(lambda: [read.sum()])


def _operations(rows: int, shapes: Sequence[tuple[int, int]], dtype: torch.dtype) -> float:
    """Of products with weights that come from memory, as those of a model do."""
    once = sum(columns * inputs for columns, inputs in shapes)
    repeats = -(-_WEIGHT_BYTES // (once * dtype.itemsize))
    chosen = list(islice(cycle(shapes), repeats * len(shapes)))
    products = [_product(columns, inputs, rows, dtype) for columns, inputs in chosen]
    given = {inputs: torch.ones(rows, inputs, dtype=dtype) for _, inputs in shapes}
    seconds = _best_seconds(
        lambda: [
            product(given[inputs]) for product, (_, inputs) in zip(products, chosen, strict=True)
        ]
    )
    return 2 * rows * once * repeats / seconds


def _product(columns: int, inputs: int, rows: int, dtype: torch.dtype) -> Product:
    weight = torch.full((columns, inputs), 0.5, dtype=dtype)
    operators: Any = torch.ops.mkldnn
    try:
        packed = operators._reorder_linear_weight(weight, rows)  # noqa: SLF001  torch's own way
        multiply = operators._linear_pointwise  # noqa: SLF001  to weights that are laid out once
        multiply(torch.ones(rows, inputs, dtype=dtype), packed, None, "none", [], "")
    except (AttributeError, NotImplementedError, RuntimeError):  # built without oneDNN
        return lambda given: functional.linear(given, weight)
    return lambda given: multiply(given, packed, None, "none", [], "")


def _best_seconds(compute: Callable[[], list[Tensor]]) -> float:
    def seconds() -> float:
        began = perf_counter()
        compute()
        return perf_counter() - began

    return min(seconds() for _ in range(_REPETITIONS))
