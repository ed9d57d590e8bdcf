"""What a token costs, and what a machine can pay; plain values."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCost:
    """Of one token: bytes of weights that a step reads, whatever the number of its tokens.

    `operations` of a token's layers; `head_operations` more where the next one is wanted.
    """

    weight_bytes: int
    operations: int
    head_operations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineLimits:
    """`products` are operations per second by the rows that are multiplied at once.

    One multiplication with its addition are two operations.
    """

    threads: int
    dtype: str
    bytes_per_second: float
    products: Mapping[int, float]

    @property
    def most_operations_per_second(self) -> float:
        return max(self.products.values())

    def operations_per_second(self, rows: int) -> float:
        """At as many rows as were measured, or the next more: never too low a limit."""
        measured = sorted(self.products)
        return self.products[next((count for count in measured if count >= rows), measured[-1])]
