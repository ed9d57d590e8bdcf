"""`status.scaling`: how many pods are wanted, who says so, and whether the server sleeps.

Nothing about scaling is kept anywhere else: an operator that is killed goes on from here. Below
2 KiB when everything is as long as it may be.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from modelserver_operator.apis.autoscaling import ScalingEngine
from modelserver_operator.apis.status_types import Count, StatusModel, Timestamp
from modelserver_operator.apis.types import LIST_ATOMIC

MOST_BUCKETS = 8
MOST_SCALINGS = 10
FIRST_HOLDER_PORT, LAST_HOLDER_PORT = 20_000, 29_999

Bucket = Annotated[str, StringConstraints(max_length=16, pattern=r"^[0-9]+:[0-9]+$")]
Word = Annotated[str, StringConstraints(max_length=40)]
Why = Annotated[str, StringConstraints(max_length=160)]


class ZeroPhase(StrEnum):
    WARM = "Warm"
    STANDBY = "Standby"
    COLD = "Cold"
    WAKING = "Waking"


class ZeroStatus(StatusModel):
    phase: ZeroPhase = ZeroPhase.WARM
    """`Warm`: pods answer. `Standby`: nobody has asked for long; the gateway stands beside the
    pods. `Cold`: no pods; the gateway holds requests. `Waking`: pods start."""
    since: Timestamp
    """Since when."""
    reason: Word = ""
    """Why, in one word."""
    settling_since: Timestamp | None = None
    """Since when what the phase waits for is there: the gateway's addresses, or a ready pod."""


class Scaling(StatusModel):
    at: Timestamp
    """When."""
    from_: Annotated[Count, Field(alias="from")]
    """Pods before."""
    to: Count
    """Pods after."""
    reason: Word
    """Why, with the numbers: `inflight 24/8` is 24 requests where each pod shall have 8."""


class ScalingStatus(StatusModel):
    engine: ScalingEngine
    """What decides between one pod and the most."""
    desired: Count
    """Pods that are wanted."""
    reason: Word = ""
    """What asks for most of them, with the numbers."""
    message: Why = ""
    """What keeps it from going on, if anything."""
    since: Timestamp
    """Since when that many are wanted."""
    min_replicas: Count = 0
    """Pods that there are at least now, schedules included."""
    max_replicas: Count = 0
    """Pods that there are at most now, schedules included."""
    window: Annotated[
        tuple[Bucket, ...], Field(max_length=MOST_BUCKETS, json_schema_extra=LIST_ATOMIC)
    ] = ()
    """What was asked for within `scaleDownDelaySeconds`, as `second:pods`: the second since 1970 at
    which a part of that time began, and the most pods in it."""
    last_active_at: Timestamp | None = None
    """When somebody asked something last, as far as is known."""
    activity: Word = ""
    """By what a new request is told: a digest of what the pods have counted."""
    zero: ZeroStatus | None = None
    """Whether the server sleeps; absent where it may not."""
    cold_start_seconds: Count | None = None
    """How long it took from a wake-up to the first ready pod, averaged with those before."""
    holder_port: Annotated[int, Field(ge=FIRST_HOLDER_PORT, le=LAST_HOLDER_PORT)] | None = None
    """The port of the gateway that holds the requests of this server."""
    history: Annotated[
        tuple[Scaling, ...], Field(max_length=MOST_SCALINGS, json_schema_extra=LIST_ATOMIC)
    ] = ()
    """The last ten changes, the newest last."""
