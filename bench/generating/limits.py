"""What the machine allows for a Llama, and how near to that an engine is.

`python -m bench.generating.limits FOLDER ROWS…` prints what it measures as JSON: how fast memory is
read, and for each number of rows how fast all matrices of the model are multiplied with so many
rows, by torch and by oneDNN with weights laid out beforehand, whichever is faster.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from bench.fronting.roofline import measure_roofline

PROMPT_ROWS = 512  # as many rows of prompts as are computed together
_BYTES = 2  # bf16
_SECONDS = 1.0
_REPETITIONS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The matrices that each token is multiplied with: inputs and outputs, and how often.

    The output layer only computes tokens that are answered, or end a prompt.
    """

    layers: Sequence[tuple[int, int]]
    count: int
    output: tuple[int, int]

    @property
    def layer_parameters(self) -> int:
        return self.count * sum(k * n for k, n in self.layers)

    @property
    def output_parameters(self) -> int:
        return self.output[0] * self.output[1]

    @property
    def bytes_per_token(self) -> int:
        """Read for each token of an answer, if it is alone."""
        return _BYTES * (self.layer_parameters + self.output_parameters)


def shape_of(folder: Path) -> Shape:
    """Of a Llama's config.json."""
    config = json.loads((folder / "config.json").read_text())
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head = config["head_dim"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    return Shape(
        layers=(
            (hidden, queries + 2 * keys),
            (queries, hidden),
            (hidden, 2 * inner),
            (inner, hidden),
        ),
        count=config["num_hidden_layers"],
        output=(hidden, config["vocab_size"]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`flops`: rows → operations per second of the model's matrices."""

    bytes_per_second: float
    flops: Mapping[int, float]

    def tokens_per_second_alone(self, shape: Shape) -> float:
        return self.bytes_per_second / shape.bytes_per_token

    def seconds(
        self, shape: Shape, *, prompts: int, prompt_tokens: int, output_tokens: int, rows: int
    ) -> float:
        """For the products alone: prompts in large pieces, answers in steps of `rows` tokens.

        The first token of an answer comes out of its prompt, so that one step less is needed.
        """
        following = output_tokens - prompts
        in_prompts = prompt_tokens * shape.layer_parameters + prompts * shape.output_parameters
        in_steps = following * (shape.layer_parameters + shape.output_parameters)
        return 2 * in_prompts / self.flops[PROMPT_ROWS] + 2 * in_steps / self.flops[rows]


def best_of(found: Sequence[Limits]) -> Limits:
    """A limit is what was reached, not what is usual."""
    return Limits(
        bytes_per_second=max(one.bytes_per_second for one in found),
        flops={rows: max(one.flops[rows] for one in found) for rows in found[0].flops},
    )


async def measure_limits(folder: Path, rows: Sequence[int]) -> Limits:
    """In processes of their own, so that the benchmark itself never imports torch."""
    roofline = await measure_roofline()
    command = [sys.executable, "-m", "bench.generating.limits", str(folder), *map(str, rows)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"bench.generating.limits ended with {process.returncode}")
    return Limits(
        bytes_per_second=1e9 * roofline.read_gigabytes_per_second,
        flops={int(count): value for count, value in json.loads(output).items()},
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.generating.limits")
    parser.add_argument("folder", type=Path, help="the model's directory")
    parser.add_argument("rows", type=int, nargs="+")
    given = parser.parse_args()
    shape = shape_of(given.folder)
    print(json.dumps({rows: round(_flops(shape, rows)) for rows in given.rows}))
    return 0


def _flops(shape: Shape, rows: int) -> float:
    """Of all layers one after another, so that no weight is in a cache when it is needed."""
    import torch  # noqa: PLC0415  the classes above are for processes without it

    matrices = [torch.rand(n, k).bfloat16() for _ in range(shape.count) for k, n in shape.layers]
    inputs = {k: torch.rand(rows, k).bfloat16() for k, _ in shape.layers}
    operations = 2 * rows * shape.layer_parameters

    def plain() -> None:
        for matrix in matrices:
            torch.nn.functional.linear(inputs[matrix.shape[1]], matrix)

    with torch.inference_mode():
        seconds = min(_fastest(plain), _fastest(_packed(matrices, inputs, rows)))
    return operations / seconds


def _packed(matrices: Sequence[Any], inputs: Mapping[int, Any], rows: int) -> Callable[[], None]:
    """oneDNN's layout for so many rows, which `torch.compile` uses with frozen weights."""
    import torch  # noqa: PLC0415

    lay_out = torch.ops.mkldnn._reorder_linear_weight  # noqa: SLF001  there is no public name
    product = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001
    laid_out = [(inputs[one.shape[1]], lay_out(one, rows)) for one in matrices]

    def work() -> None:
        for given, matrix in laid_out:
            product(given, matrix, None, "none", [], "")

    return work


def _fastest(work: Callable[[], object]) -> float:
    """Seconds of the best of the repetitions."""
    work()
    began, times = perf_counter(), []
    while perf_counter() - began < _SECONDS or len(times) < _REPETITIONS:
        before = perf_counter()
        work()
        times.append(perf_counter() - before)
    return min(times)


if __name__ == "__main__":
    sys.exit(main())
