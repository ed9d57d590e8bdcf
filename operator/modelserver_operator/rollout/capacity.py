"""How many pods a share of the traffic needs, and how far the weight may move with one more."""

import math

from modelserver_operator.apis.rollout import WHOLE, CapacityPolicy

# Weights are whole percents and pods are not: with Shift, pods may carry one percent of the traffic
# more than their share, or every step would need a pod more than there is room for.
SHIFT_TOLERANCE_PERCENT = 1


def pods_for(replicas: int, percent: int, policy: CapacityPolicy = CapacityPolicy.SURGE) -> int:
    """At least one for any share at all."""
    if replicas == 0 or percent <= 0:
        return 0
    if percent >= WHOLE:
        return replicas
    tolerance = SHIFT_TOLERANCE_PERCENT if policy is CapacityPolicy.SHIFT else 0
    return max(1, math.ceil(replicas * (percent - tolerance) / WHOLE))


def next_share(share: int, goal: int, replicas: int, policy: CapacityPolicy) -> int:
    """What the side that gets traffic has after the next move, on its way from `share` to `goal`.

    Surge goes there at once. Shift goes as far as its pods carry, so that the other side gives away
    what it can, and only then as far as one more pod carries.
    """
    if policy is CapacityPolicy.SURGE or replicas == 0:
        return goal
    pods = pods_for(replicas, share, policy)
    carried = WHOLE * pods // replicas
    if carried <= share:
        carried = max(share + 1, WHOLE * (pods + 1) // replicas)
    return min(goal, carried)
