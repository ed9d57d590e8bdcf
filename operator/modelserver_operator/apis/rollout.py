"""`spec.rollout`: how a new revision takes over, and by what evidence."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from modelserver_operator.apis.runtime import KeyReference
from modelserver_operator.apis.types import (
    LIST_ATOMIC,
    ApiModel,
    ObjectName,
    Rule,
    list_map,
    unique,
)

Percent = Annotated[int, Field(ge=0, le=100)]
SomePercent = Annotated[int, Field(ge=1, le=100)]
Seconds = Annotated[int, Field(ge=0, le=604_800)]
CheckName = Annotated[
    str, StringConstraints(min_length=1, max_length=40, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
]
Decimal = Annotated[str, StringConstraints(max_length=24, pattern=r"^-?[0-9]+(\.[0-9]+)?$")]
WHOLE = 100
DEFAULT_STEPS = ((5, 120), (25, 120), (50, 120), (100, 0))


class Strategy(StrEnum):
    AUTO = "Auto"
    ROLLING = "Rolling"
    CANARY = "Canary"
    BLUE_GREEN = "BlueGreen"
    RECREATE = "Recreate"
    HOLD_AND_SWAP = "HoldAndSwap"


class OnFailure(StrEnum):
    ROLLBACK = "Rollback"
    PAUSE = "Pause"


class OnTimeout(StrEnum):
    AUTO = "Auto"
    PAUSE = "Pause"
    ROLLBACK = "Rollback"


class Approval(StrEnum):
    AUTO = "Auto"
    MANUAL = "Manual"


class CapacityPolicy(StrEnum):
    SURGE = "Surge"
    SHIFT = "Shift"


class MetricSource(StrEnum):
    AUTO = "Auto"
    PODS = "Pods"
    PROMETHEUS = "Prometheus"
    ISTIO = "Istio"


class Comparison(StrEnum):
    AUTO = "Auto"
    TEXT = "Text"
    LABEL = "Label"
    EMBEDDING = "Embedding"


class Step(ApiModel):
    weight_percent: SomePercent
    """How much of the traffic the new revision gets."""
    hold_seconds: Seconds = 60
    """How long this weight is held at least, from when the route was confirmed."""


class Shadow(ApiModel):
    percent: SomePercent = 10
    """How many of the requests are copied to the new revision. Its answers go to nobody."""
    hold_seconds: Seconds = 60
    """How long requests are copied at least before the first step."""
    min_pairs: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    """Compared pairs that are needed before the first step."""
    compare: Comparison = Comparison.AUTO
    """What must agree: the text, the best label, or the direction of the embedding. `Auto` takes
    what the answer has."""
    min_cosine_percent: Percent = 98
    """Embeddings agree when the cosine of their angle, in percent, is at least this."""
    margin_percent: Annotated[int, Field(ge=0, le=10_000)] = 25
    """How many percent more often than two answers of the stable revision differ from each other
    the two revisions' answers may differ."""
    baseline_percent: SomePercent = 100
    """How many of the copied requests are asked of the stable revision a second time, to see how
    often it differs from itself. Fewer make the comparison blind to all but large differences."""
    only: bool = False
    """Stay in shadow until the command `promote-step` or `promote-full` is given."""


class GoldenSet(ApiModel):
    config_map_ref: KeyReference
    """The cases, one JSON object on a line: `request`, `path`, and what the answer must be like."""


class Preflight(ApiModel):
    golden_set: GoldenSet
    """Prompts whose answers are known. They are asked before any traffic."""
    min_pass_percent: SomePercent = 100
    """How many of the cases must pass."""
    timeout_seconds: Annotated[int, Field(ge=1, le=86_400)] = 300
    """Longest time for all cases."""
    api_key: KeyReference | None = None
    """A key of a Secret, for a server that asks for one."""


class Gate(ApiModel):
    enabled: bool = True
    """Whether this decides anything."""
    margin_percent: Annotated[int, Field(ge=0, le=10_000)] = 25
    """How many percent more often than at the stable revision it may happen."""


class LatencyGate(Gate):
    slow_above_milliseconds: Annotated[int, Field(ge=0, le=3_600_000)] = 0
    """What counts as slow; it is rounded up to the next edge of the histogram. 0 takes the
    time within which nine of ten requests of the stable revision were answered when the rollout
    began."""


class QueryCheck(ApiModel):
    name: CheckName
    """How messages call it."""
    query: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    """PromQL with one value as its result. `$NAMESPACE`, `$SERVER`, `$STABLE`, `$CANARY` and
    `$WINDOW` are replaced."""
    min: Decimal | None = None
    """Fails below."""
    max: Decimal | None = None
    """Fails above."""
    min_requests: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    """Requests of the new revision that are needed before it counts."""

    rules = (
        Rule(
            cel="has(self.min) || has(self.max)",
            holds=lambda check: check.min is not None or check.max is not None,
            message="a query must have min, max or both: the values between which it passes",
        ),
    )


class WebhookCheck(ApiModel):
    name: CheckName
    """How messages call it."""
    service: ObjectName
    """A Service in the ModelServer's namespace."""
    port: Annotated[int, Field(ge=1, le=65_535)] = 80
    """Its port."""
    path: Annotated[str, StringConstraints(max_length=256, pattern=r"^/\S*$")] = "/"
    """Where the state of the rollout is sent, as JSON, by POST. The answer 200 passes, 403 fails,
    anything else is no decision."""
    timeout_seconds: Annotated[int, Field(ge=1, le=30)] = 5
    """Longest time of an answer."""


_ISTIO_SEES_REQUESTS = (
    "!has(self.source) || self.source != 'Istio'"
    " || !(has(self.timeToFirstToken) || has(self.interTokenTime))"
)


class Analysis(ApiModel):
    source: MetricSource = MetricSource.AUTO
    """Where requests are counted. `Auto` takes the built-in router where it carries the traffic,
    otherwise the pods. `Prometheus` and `Istio` ask the Prometheus that the operator is configured
    with: for the pods' own metrics, or for those of the proxies beside them."""
    interval_seconds: Annotated[int, Field(ge=2, le=3_600)] = 15
    """How often they are counted."""
    min_samples: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    """Requests that the new revision must have answered at each step."""
    false_alarm_percent: Annotated[int, Field(ge=1, le=20)] = 1
    """How probable it may be that a healthy revision is rolled back, over the whole rollout."""
    errors: Gate = Gate()
    """Requests that the server failed to answer."""
    latency: LatencyGate = LatencyGate()
    """Requests that took long."""
    time_to_first_token: LatencyGate | None = None
    """Streams whose first token took long."""
    inter_token_time: LatencyGate | None = None
    """Tokens of streams that came late."""
    max_error_percent: Percent = 0
    """A bound that does not look at the stable revision: the new one fails when it is certainly
    exceeded. 0 means none."""
    queries: Annotated[
        tuple[QueryCheck, ...],
        Field(max_length=4, json_schema_extra=list_map("name")),
        unique("name"),
    ] = ()
    """More checks, asked of the Prometheus that the operator is configured with."""
    webhooks: Annotated[
        tuple[WebhookCheck, ...],
        Field(max_length=4, json_schema_extra=list_map("name")),
        unique("name"),
    ] = ()
    """More checks, asked of Services in the namespace."""

    rules = (
        Rule(
            cel=_ISTIO_SEES_REQUESTS,
            holds=lambda analysis: (
                analysis.source is not MetricSource.ISTIO
                or (analysis.time_to_first_token is None and analysis.inter_token_time is None)
            ),
            message="Istio sees requests and no tokens: remove timeToFirstToken and"
            " interTokenTime, or set source to Prometheus",
            field_path=".source",
        ),
    )


_STEPS_RISE = (
    "!has(self.steps) || self.steps.map(step, step.weightPercent).isSorted()"
    " && self.steps.all(step, self.steps.filter(other,"
    " other.weightPercent == step.weightPercent).size() == 1)"
)
_STEPS_END = (
    "!has(self.steps) || self.steps.size() == 0"
    " || self.steps[self.steps.size() - 1].weightPercent == 100"
)


def _rise(steps: tuple[Step, ...]) -> bool:
    weights = [step.weight_percent for step in steps]
    return weights == sorted(set(weights))


class RolloutSpec(ApiModel):
    strategy: Strategy = Strategy.AUTO
    """`Rolling`: the new revision takes over as soon as all of its pods are ready. `Canary`: it
    takes over step by step while its answers are compared with those of the stable revision.
    `BlueGreen`: it is made in full, examined without traffic, and takes over at once. `Recreate`:
    the old pods end before the new ones start, and nothing answers in between. `HoldAndSwap`: the
    same, but requests are held at the router until the new pods are ready. `Auto` is `Canary` where
    steps, shadow, preflight or analysis are given, otherwise `Rolling`; and `HoldAndSwap`
    instead of `Rolling` where the cluster has no room for both."""
    steps: Annotated[tuple[Step, ...], Field(max_length=10, json_schema_extra=LIST_ATOMIC)] = ()
    """The weights of the new revision, rising to 100. Empty means 5, 25, 50 and 100."""
    shadow: Shadow | None = None
    """Requests are copied to the new revision, and the answers compared, before the first step."""
    preflight: Preflight | None = None
    """Questions with known answers, asked before any traffic."""
    analysis: Analysis | None = None
    """What decides between going on and rolling back. Without it, errors and latency do."""
    on_failure: OnFailure = OnFailure.ROLLBACK
    """What happens to a revision that fails."""
    on_timeout: OnTimeout = OnTimeout.AUTO
    """What happens when a deadline passes without a decision. `Auto` rolls back from half of the
    traffic on, and pauses below."""
    approval: Approval = Approval.AUTO
    """`Manual` waits for the command `promote-step` or `promote-full` before the last step."""
    capacity_policy: CapacityPolicy = CapacityPolicy.SURGE
    """`Surge` keeps all pods of the stable revision until the new one is in place; `Shift` takes
    away as many as the new one has got, so that one more pod than `replicas` is needed."""
    prepare_deadline_seconds: Annotated[int, Field(ge=10, le=604_800)] = 3_600
    """Longest time until the new revision's pods are ready."""
    step_deadline_seconds: Annotated[int, Field(ge=10, le=604_800)] = 3_600
    """Longest time in which a step may wait for enough requests, for metrics or for a route."""
    deadline_seconds: Annotated[int, Field(ge=60, le=2_592_000)] = 86_400
    """Longest time of the whole rollout, without pauses."""
    bake_seconds: Seconds = 300
    """How long the previous revision's pods stay, and the same gates hold, after the new one has
    all traffic."""
    history_limit: Annotated[int, Field(ge=0, le=50)] = 5
    """How many earlier revisions are kept to be rolled back to."""
    paused: bool = False
    """Hold a rollout where it is. A revision that fails is rolled back nevertheless."""

    rules = (
        Rule(
            cel=_STEPS_RISE,
            holds=lambda rollout: _rise(rollout.steps),
            message="weightPercent of steps must rise from step to step, for example 5, 25, 100",
            field_path=".steps",
        ),
        Rule(
            cel=_STEPS_END,
            holds=lambda rollout: not rollout.steps or rollout.steps[-1].weight_percent == WHOLE,
            message="the last of steps must have weightPercent 100, with which it takes over",
            field_path=".steps",
        ),
    )

    @property
    def is_analyzed(self) -> bool:
        return bool(self.steps or self.shadow or self.preflight or self.analysis)

    @property
    def chosen(self) -> Strategy:
        """What `Auto` means."""
        if self.strategy is not Strategy.AUTO:
            return self.strategy
        return Strategy.CANARY if self.is_analyzed else Strategy.ROLLING

    @property
    def run_steps(self) -> tuple[Step, ...]:
        """Those of a run: BlueGreen has one."""
        if self.chosen is Strategy.BLUE_GREEN:
            return (Step(weight_percent=WHOLE, hold_seconds=0),)
        steps = tuple(Step(weight_percent=w, hold_seconds=h) for w, h in DEFAULT_STEPS)
        return self.steps or steps
