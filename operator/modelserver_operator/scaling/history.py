"""The last changes of the number of pods, and how fast they came."""

from datetime import datetime

from modelserver_operator.apis.scaling_status import MOST_SCALINGS, Scaling
from modelserver_operator.scaling.times import seconds_since, timestamp

# An HPA's own rule for growing: in 15 s to twice the pods, or by four, whichever is more.
GROWTH_SECONDS = 15
GROWTH_FACTOR, GROWTH_PODS = 2, 4
_LONGEST_REASON = 40

type History = tuple[Scaling, ...]


def remembered(history: History, before: int, after: int, *, reason: str, now: datetime) -> History:
    if before == after:
        return history
    said = reason if len(reason) <= _LONGEST_REASON else f"{reason[: _LONGEST_REASON - 1]}…"
    change = Scaling(at=timestamp(now), from_=before, to=after, reason=said)
    return (*history, change)[-MOST_SCALINGS:]


def growth_limit(history: History, current: int, now: datetime) -> int:
    """The most pods that may be wanted now: by what there were 15 s ago."""
    grown = sum(
        max(0, one.to - one.from_) for one in history if seconds_since(one.at, now) < GROWTH_SECONDS
    )
    base = max(0, current - grown)
    return max(current, GROWTH_FACTOR * base, base + GROWTH_PODS)
