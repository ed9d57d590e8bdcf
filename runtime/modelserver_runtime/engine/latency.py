"""How long a turn will take: a line through what was measured, in which the newest counts most."""

from dataclasses import dataclass

# Weight that a measurement loses with each newer one: about the last fifty count.
_KEPT = 0.98
# Before so many measurements nobody is refused because of a prediction.
_ENOUGH = 8
# What is thought of the first turns, in seconds; it only decides about their Retry-After.
_FIRST_GUESS_SECONDS = 1.0


@dataclass(slots=True, kw_only=True)
class _Sums:
    weight: float = 0.0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0


class LatencyModel:
    """Seconds = a · cost + b, by weighted least squares with a ≥ 0 and b ≥ 0."""

    def __init__(self) -> None:
        self._sums = _Sums()
        self._measured = 0
        self._slope = 0.0
        self._intercept = _FIRST_GUESS_SECONDS

    @property
    def is_trained(self) -> bool:
        return self._measured >= _ENOUGH

    @property
    def typical_seconds(self) -> float:
        return self._sums.y / self._sums.weight if self._measured else _FIRST_GUESS_SECONDS

    def predict(self, cost: float) -> float:
        return self._slope * cost + self._intercept

    def observe(self, cost: float, seconds: float) -> None:
        sums = self._sums
        sums.weight = sums.weight * _KEPT + 1
        sums.x = sums.x * _KEPT + cost
        sums.y = sums.y * _KEPT + seconds
        sums.xx = sums.xx * _KEPT + cost * cost
        sums.xy = sums.xy * _KEPT + cost * seconds
        self._measured += 1
        self._slope, self._intercept = _line(sums)


def _line(sums: _Sums) -> tuple[float, float]:
    """Where the best line would go below zero, the best one that does not."""
    spread = sums.weight * sums.xx - sums.x * sums.x
    # Costs that are all the same say nothing about the slope; then it goes through the origin.
    if spread <= 1e-9 * sums.weight * sums.xx:
        return (sums.y / sums.x, 0.0) if sums.x > 0 else (0.0, sums.y / sums.weight)
    slope = (sums.weight * sums.xy - sums.x * sums.y) / spread
    intercept = (sums.y - slope * sums.x) / sums.weight
    if slope < 0:
        return 0.0, sums.y / sums.weight
    if intercept < 0:
        return sums.xy / sums.xx, 0.0
    return slope, intercept
