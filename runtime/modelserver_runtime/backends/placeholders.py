"""Weights that have a shape and no memory yet, until those of the files take their place."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from torch import Tensor
from torch.nn import init

_RANDOM = (
    *("normal_", "trunc_normal_", "uniform_", "orthogonal_", "sparse_"),
    *("kaiming_normal_", "kaiming_uniform_", "xavier_normal_", "xavier_uniform_"),
)


@contextmanager
def placeholders_stay_empty() -> Iterator[None]:
    """Random numbers for a tensor without memory go nowhere, but torch's way there is long.

    It is written in Python, and imports the compiler and sympy: more than a second.
    """
    originals = {name: getattr(init, name) for name in _RANDOM}
    for name, fill in originals.items():
        setattr(init, name, _only_in_memory(fill))
    try:
        yield
    finally:
        for name, fill in originals.items():
            setattr(init, name, fill)


def _only_in_memory(fill: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @wraps(fill)
    def fill_in_memory(tensor: Tensor, *values: Any, **named: Any) -> Tensor:
        return tensor if tensor.is_meta else fill(tensor, *values, **named)

    return fill_in_memory
