"""Between which numbers of pods the engine may decide."""

from collections.abc import Sequence
from dataclasses import dataclass

from modelserver_operator.apis.autoscaling import Autoscaling, Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """`least` may be 0, where only the operator may go; `least` is never above `most`."""

    least: int
    most: int

    def clamp(self, replicas: int) -> int:
        return min(self.most, max(self.least, replicas))


def bounds_of(scaling: Autoscaling, active: Sequence[Schedule], *, floor: int = 0) -> Bounds:
    """`floor` is what a rollout needs: it holds against every most, because traffic is there."""
    limits = [one.max_replicas for one in active if one.max_replicas is not None]
    most = max(limits) if limits else scaling.max_replicas
    least = max([scaling.min_replicas, *(one.min_replicas for one in active)])
    least = max(min(least, most), floor)
    return Bounds(least=least, most=max(most, least))
