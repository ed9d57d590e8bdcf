"""What a part of the benchmark is."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

type Round = dict[str, Any]
type Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What a figure is held against."""

    text: str
    holds: Callable[[float], bool]


def at_most(limit: float) -> Bound:
    return Bound(text=f"<= {limit:,}", holds=lambda value: value <= limit)


def below(limit: float) -> Bound:
    return Bound(text=f"< {limit:,}", holds=lambda value: value < limit)


def at_least(limit: float) -> Bound:
    return Bound(text=f">= {limit:,}", holds=lambda value: value >= limit)


def exactly(wanted: float) -> Bound:
    return Bound(text=f"{wanted:g}", holds=lambda value: value == wanted)


class Part(Protocol):
    """Starts its own servers, and gives the numbers of each round and the figures of all."""

    bounds: Mapping[str, Bound]

    async def measure(self, rounds: int, say: Say) -> Sequence[Round]: ...

    def figures(self, rounds: Sequence[Round]) -> dict[str, float]: ...

    def remarks(self, figures: Mapping[str, float]) -> Iterable[str]:
        """What a reader must know beside the figures."""
        ...


def middle(rounds: Sequence[Round], name: str) -> float:
    """The median of the rounds; four digits, which is more than they agree in."""
    return float(f"{median(one[name] for one in rounds):.4g}")
