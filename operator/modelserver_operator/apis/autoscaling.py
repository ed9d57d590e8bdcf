"""`spec.autoscaling`: how many pods serve, by what is measured, and whether none may."""

import re
from enum import StrEnum
from functools import cache
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, StringConstraints

from modelserver_operator.apis.rollout import CheckName
from modelserver_operator.apis.types import (
    LIST_ATOMIC,
    LIST_SET,
    MAP_ATOMIC,
    ApiModel,
    ObjectName,
    Rule,
    list_map,
    unique,
)

MOST_REPLICAS = 1000
MOST_METRICS, MOST_QUERIES, MOST_TRIGGERS, MOST_SCHEDULES = 6, 4, 8, 8
# The longest stabilization window that an HPA takes.
LONGEST_SCALE_DOWN_DELAY_SECONDS = 3_600
WHOLE_PERCENT = 100

# Requests in flight per pod where no metric is given: a few answers at a time are what batching
# needs to be worth it, and few enough that one more pod is felt.
DEFAULT_IN_FLIGHT = 8

_CLOCK_TIME = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
_ZONE = r"^[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$"
_POSITIVE = r"^([1-9][0-9]{0,11}(\.[0-9]{1,9})?|0\.[0-9]{0,8}[1-9])$"
_TRIGGER = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"

ClockTime = Annotated[str, StringConstraints(max_length=5, pattern=_CLOCK_TIME)]
TimeZone = Annotated[str, StringConstraints(max_length=64, pattern=_ZONE)]
PositiveDecimal = Annotated[str, StringConstraints(max_length=22, pattern=_POSITIVE)]
Replicas = Annotated[int, Field(ge=0, le=MOST_REPLICAS)]
SomeReplicas = Annotated[int, Field(ge=1, le=MOST_REPLICAS)]


class ScalingEngine(StrEnum):
    AUTO = "Auto"
    HPA = "HPA"
    KEDA = "KEDA"
    OPERATOR = "Operator"


class MetricName(StrEnum):
    IN_FLIGHT = "inflight"
    QUEUE_DEPTH = "queueDepth"
    TOKENS_PER_SECOND = "tokensPerSecond"
    CPU = "cpu"
    MEMORY = "memory"
    GPU = "gpu"


class Day(StrEnum):
    MONDAY = "Mon"
    TUESDAY = "Tue"
    WEDNESDAY = "Wed"
    THURSDAY = "Thu"
    FRIDAY = "Fri"
    SATURDAY = "Sat"
    SUNDAY = "Sun"


RESOURCE_METRICS = frozenset({MetricName.CPU, MetricName.MEMORY})


class ScalingMetric(ApiModel):
    name: MetricName
    """`inflight`: requests that are being answered. `queueDepth`: requests that wait for their
    turn. `tokensPerSecond`: tokens that are generated. `cpu`, `memory`: what is used, in percent of
    what `spec.resources` requests. `gpu`: how busy the accelerators are, in percent."""
    target: Annotated[int, Field(ge=1, le=1_000_000)]
    """What each pod shall have on average."""

    rules = (
        Rule(
            cel="self.name != 'gpu' || self.target <= 100",
            holds=lambda metric: (
                metric.name is not MetricName.GPU or metric.target <= WHOLE_PERCENT
            ),
            message="the target of gpu must be a percentage of at most 100, for example 70",
            field_path=".target",
        ),
    )


class ScalingQuery(ApiModel):
    name: CheckName
    """How status calls it."""
    query: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    """Asked of the operator's Prometheus. It must give one number: that of all pods together."""
    target: PositiveDecimal
    """What each pod shall have of it, for example "20" or "0.5"."""


class AuthenticationKind(StrEnum):
    TRIGGER_AUTHENTICATION = "TriggerAuthentication"
    CLUSTER_TRIGGER_AUTHENTICATION = "ClusterTriggerAuthentication"


class AuthenticationReference(ApiModel):
    name: ObjectName
    """Its name."""
    kind: AuthenticationKind = AuthenticationKind.TRIGGER_AUTHENTICATION
    """Its kind."""


class TriggerMetric(StrEnum):
    AVERAGE_VALUE = "AverageValue"
    VALUE = "Value"


class ScalingTrigger(ApiModel):
    name: CheckName
    """How status calls it."""
    type: Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=_TRIGGER)]
    """One of KEDA's scalers, such as `rabbitmq`."""
    metadata: Annotated[
        dict[str, Annotated[str, StringConstraints(max_length=1024)]],
        Field(min_length=1, max_length=24, json_schema_extra=MAP_ATOMIC),
    ]
    """What that scaler takes, as KEDA's documents say."""
    metric_type: TriggerMetric = TriggerMetric.AVERAGE_VALUE
    """`AverageValue` divides by the number of pods, `Value` does not."""
    authentication_ref: AuthenticationReference | None = None
    """What holds the credentials."""

    rules = (
        Rule(
            cel="!(self.type in ['cpu', 'memory', 'cron'])",
            holds=lambda trigger: trigger.type not in {"cpu", "memory", "cron"},
            message=(
                "a trigger must not be of type cpu, memory or cron: write cpu and memory under"
                " metrics, and times of the day under schedules"
            ),
            field_path=".type",
        ),
    )


class Schedule(ApiModel):
    name: CheckName
    """How status calls it."""
    time_zone: TimeZone = "UTC"
    """A name of the IANA time zone database, such as `Europe/Berlin`."""
    days: Annotated[
        tuple[Day, ...], Field(min_length=1, max_length=7, json_schema_extra=LIST_SET), unique()
    ] = tuple(Day)
    """On which days it begins."""
    start: ClockTime
    """When it begins, as `08:00`. Where the clock skips that time, as much later as it skips."""
    end: ClockTime
    """When it ends; on the next day if that is not later than `start`."""
    min_replicas: SomeReplicas
    """Pods that there are at least."""
    max_replicas: SomeReplicas | None = None
    """Pods that there are at most, instead of the `maxReplicas` outside."""

    rules = (
        Rule(
            cel="self.start != self.end",
            holds=lambda schedule: schedule.start != schedule.end,
            message="start and end must differ; for the whole day write minReplicas outside",
            field_path=".end",
        ),
        Rule(
            cel="!has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
            holds=lambda schedule: (
                schedule.max_replicas is None or schedule.min_replicas <= schedule.max_replicas
            ),
            message="minReplicas must not be greater than maxReplicas of the same schedule",
            field_path=".minReplicas",
        ),
    )

    @property
    def is_overnight(self) -> bool:
        return self.end < self.start


class Zero(ApiModel):
    idle_seconds: Annotated[int, Field(ge=10, le=604_800)] = 600
    """How long nobody must have asked anything before the last pod goes. A server that takes longer
    than that to start waits as long as its last start took."""
    max_held_requests: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    """Requests that each gateway holds while the server starts; more are answered with 429."""
    max_held_bytes: Annotated[int, Field(ge=1_024, le=4_294_967_296)] = 67_108_864
    """Bytes of their bodies that each gateway holds together."""
    max_hold_seconds: Annotated[int, Field(ge=1, le=3_600)] = 300
    """How long one is held; then it is answered with 503 and Retry-After."""


_ONLY_RESOURCES = (
    "self.engine != 'HPA' || (has(self.metrics) && self.metrics.size() > 0"
    " && self.metrics.all(metric, metric.name in ['cpu', 'memory'])"
    " && (!has(self.queries) || self.queries.size() == 0)"
    " && (!has(self.triggers) || self.triggers.size() == 0))"
)
_BELOW_MOST = (
    "!has(self.schedules) || self.schedules.all(schedule,"
    " has(schedule.maxReplicas) || schedule.minReplicas <= self.maxReplicas)"
)


class Autoscaling(ApiModel):
    engine: ScalingEngine = ScalingEngine.AUTO
    """What decides. `HPA`: Kubernetes, by cpu and memory. `KEDA`: KEDA, by anything. `Operator`:
    this operator, by what the pods say. `Auto` is `KEDA` where something else than cpu and memory
    is asked for and the cluster has KEDA, `HPA` for cpu and memory where the cluster measures
    them, and otherwise `Operator`. None of them scales to zero: the operator does."""
    min_replicas: Replicas = 1
    """Pods that there are at least. With 0 the last one goes while nobody asks."""
    max_replicas: SomeReplicas
    """Pods that there are at most."""
    metrics: Annotated[
        tuple[ScalingMetric, ...],
        Field(max_length=MOST_METRICS, json_schema_extra=list_map("name")),
        unique("name"),
    ] = ()
    """What is measured; the one that asks for most pods decides. Empty, with no query and no
    trigger either, means `inflight` with target 8."""
    queries: Annotated[
        tuple[ScalingQuery, ...],
        Field(max_length=MOST_QUERIES, json_schema_extra=list_map("name")),
        unique("name"),
    ] = ()
    """Queries of Prometheus."""
    triggers: Annotated[
        tuple[ScalingTrigger, ...], Field(max_length=MOST_TRIGGERS, json_schema_extra=LIST_ATOMIC)
    ] = ()
    """Triggers of KEDA, as they are."""
    schedules: Annotated[
        tuple[Schedule, ...],
        Field(max_length=MOST_SCHEDULES, json_schema_extra=list_map("name")),
        unique("name"),
    ] = ()
    """Times at which there are more pods at least. Of several at once the largest numbers count."""
    scale_down_delay_seconds: Annotated[int, Field(ge=0, le=LONGEST_SCALE_DOWN_DELAY_SECONDS)] = 300
    """How long fewer pods must have been enough before some go."""
    zero: Zero | None = None
    """How the last pod goes and comes back; with `minReplicas: 0` only."""

    rules = (
        Rule(
            cel="self.minReplicas <= self.maxReplicas",
            holds=lambda scaling: scaling.min_replicas <= scaling.max_replicas,
            message="minReplicas must not be greater than maxReplicas; raise maxReplicas",
            field_path=".minReplicas",
        ),
        Rule(
            cel="!has(self.zero) || self.minReplicas == 0",
            holds=lambda scaling: scaling.zero is None or scaling.min_replicas == 0,
            message="zero requires minReplicas: 0; set that, or remove zero",
            field_path=".zero",
        ),
        Rule(
            cel=_ONLY_RESOURCES,
            holds=lambda scaling: (
                scaling.engine is not ScalingEngine.HPA or scaling.is_only_of_resources
            ),
            message=(
                "engine HPA requires metrics cpu or memory and nothing else; for other metrics,"
                " queries and triggers set engine to Auto, KEDA or Operator"
            ),
            field_path=".engine",
        ),
        Rule(
            cel="self.engine != 'Operator' || !has(self.triggers) || self.triggers.size() == 0",
            holds=lambda scaling: (
                scaling.engine is not ScalingEngine.OPERATOR or not scaling.triggers
            ),
            message=(
                "engine Operator cannot ask KEDA's triggers; remove triggers, or set engine to"
                " KEDA or Auto"
            ),
            field_path=".triggers",
        ),
        Rule(
            cel=_BELOW_MOST,
            holds=lambda scaling: all(
                one.max_replicas is not None or one.min_replicas <= scaling.max_replicas
                for one in scaling.schedules
            ),
            message=(
                "minReplicas of a schedule must not be greater than maxReplicas; lower it, or give"
                " the schedule a maxReplicas of its own"
            ),
            field_path=".schedules",
        ),
    )

    @property
    def is_only_of_resources(self) -> bool:
        """Whether an HPA alone can measure all of it."""
        names = {metric.name for metric in self.metrics}
        return bool(names) and names <= RESOURCE_METRICS and not (self.queries or self.triggers)

    @property
    def measured(self) -> tuple[ScalingMetric, ...]:
        """`metrics`, or what empty ones mean."""
        if self.metrics or self.queries or self.triggers:
            return self.metrics
        return (ScalingMetric(name=MetricName.IN_FLIGHT, target=DEFAULT_IN_FLIGHT),)

    @property
    def resting(self) -> Zero | None:
        """None where the last pod stays."""
        return (self.zero or Zero()) if self.min_replicas == 0 else None


# For the rules of the spec. `replicas` has a default, which the API server fills in: so 1 stands
# for "not given".
REPLICAS_OR_AUTOSCALING = Rule(
    cel="!has(self.autoscaling) || self.replicas == 1",
    holds=lambda spec: spec.autoscaling is None or spec.replicas == 1,
    message=(
        "replicas and autoscaling exclude each other: remove replicas, and write"
        " autoscaling.minReplicas and maxReplicas instead"
    ),
    field_path=".replicas",
)


def minutes_of(clock_time: str) -> tuple[int, int]:
    """Hour and minute of a ClockTime."""
    if re.fullmatch(_CLOCK_TIME, clock_time) is None:
        raise ValueError(f"{clock_time!r} is no time of the day; write it as 08:00")
    hour, _, minute = clock_time.partition(":")
    return int(hour), int(minute)


@cache
def zone_of(name: TimeZone) -> ZoneInfo | None:
    """None for a name that is in no database of this machine."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder of zones
        return None
