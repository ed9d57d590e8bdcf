"""Whether anybody has asked anything since the status was written."""

import hashlib
from collections.abc import Sequence
from datetime import datetime

from modelserver_operator.apis.scaling_status import ScalingStatus
from modelserver_operator.scaling.samples import PodReading
from modelserver_operator.scaling.times import seconds_since

_DIGEST_LENGTH = 16
# The status is written for activity at most this often, so that a busy server does not cost a write
# at each look: the time of the last request is known that much too late, and never too early.
SHARPEST_SECONDS, BLUNTEST_SECONDS = 5, 60
_PART_OF_IDLE = 10


def mark_of(readings: Sequence[PodReading]) -> str:
    """Another one when a pod has counted a request, has come or has gone."""
    counted = sorted((one.pod, one.requests) for one in readings)
    return hashlib.sha256(repr(counted).encode()).hexdigest()[:_DIGEST_LENGTH]


def is_quiet(
    stored: ScalingStatus, readings: Sequence[PodReading] | None, pods: int
) -> bool | None:
    """Whether nothing is in flight in any pod, and nothing was counted; None if nobody can tell.

    A pod that cannot say what it has counted is one of which nobody can tell.
    """
    answers = readings or ()
    if any(one.in_flight for one in answers):
        return False
    silent = any(one.requests is None or one.in_flight is None for one in answers)
    if pods == 0 or len(answers) != pods or silent:
        return None
    return stored.activity == mark_of(answers)


def is_worth_writing(stored: ScalingStatus, idle_seconds: int, now: datetime) -> bool:
    """Whether new activity goes into the status now, or with the next one."""
    grain = min(BLUNTEST_SECONDS, max(SHARPEST_SECONDS, idle_seconds // _PART_OF_IDLE))
    return stored.last_active_at is None or seconds_since(stored.last_active_at, now) >= grain
