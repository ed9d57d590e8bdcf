"""One model as the page shows it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from modelserver_runtime.gateway.cluster import ServedModel
from modelserver_runtime.gateway.cluster.report import Diagnosis, Scaling
from modelserver_runtime.gateway.page.rollout_view import (
    ExperimentView,
    RolloutView,
    Tone,
    experiment_view,
    rollout_view,
)
from modelserver_runtime.gateway.page.states import State, state_of
from modelserver_runtime.gateway.page.words import (
    ago,
    counted,
    duration,
    lasting,
    latency,
    rate,
    share,
)
from modelserver_runtime.gateway.traffic import Recent

SPARK_WIDTH, SPARK_HEIGHT = 120, 28
# From this share of failures on they are shown in red.
_FAILING = 0.01
# A line of a pixel at the edge would be cut in half.
_SPARK_MARGIN = 2
_WANTED = frozenset({"Ready", "Serving", "ModelResolved"})
_UNWANTED = frozenset({"Degraded", "Stalled"})
_TONES = {"True": Tone.GOOD, "False": Tone.BAD}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficView:
    """`spark` are the points of a line: requests of the last two minutes.

    `is_idle`: there was nothing in that time.
    """

    per_second: str
    p50: str
    p95: str
    failed: str
    is_failing: bool
    in_flight: str
    spark: str
    is_idle: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingView:
    headline: str
    facts: tuple[tuple[str, str], ...]
    history: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionView:
    type: str
    status: str
    tone: Tone
    reason: str
    message: str
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """`name` is what clients write as `model`; `key` is the server's namespace and name."""

    key: str
    name: str
    aliases: tuple[str, ...]
    task: str
    revision: str
    state: State
    pods: str
    lacks_pods: bool
    traffic: TrafficView
    diagnosis: Diagnosis | None
    rollout: RolloutView | None
    experiments: tuple[ExperimentView, ...]
    scaling: ScalingView | None
    conditions: tuple[ConditionView, ...]


def card_of(name: str, model: ServedModel, stage: str, recent: Recent, now: float) -> Card:
    report = model.report
    return Card(
        key=str(model.key),
        name=name,
        aliases=model.names[1:],
        task="" if model.task == "Auto" else model.task,
        revision=model.revision,
        state=state_of(model, stage, now),
        pods=f"{report.ready}/{report.wanted}",
        lacks_pods=report.ready < report.wanted,
        traffic=traffic_view(recent),
        diagnosis=report.diagnosis,
        rollout=rollout_view(report.rollout, now) if report.rollout else None,
        experiments=tuple(map(experiment_view, report.experiments)),
        scaling=_scaling(report.scaling, now) if report.scaling else None,
        conditions=tuple(_conditions(model, now)),
    )


def traffic_view(recent: Recent) -> TrafficView:
    return TrafficView(
        per_second=rate(recent.per_second),
        p50=latency(recent.p50_seconds),
        p95=latency(recent.p95_seconds),
        failed=share(recent.failed, recent.answered),
        is_failing=recent.failed >= _FAILING * recent.answered > 0,
        in_flight=f"{recent.in_flight:,}",
        spark=spark_points(recent.history),
        is_idle=not (recent.answered or recent.in_flight or any(recent.history)),
    )


def spark_points(history: Sequence[int]) -> str:
    """The highest value is at the top; nothing at all is a line at the bottom."""
    highest = max([*history, 1])
    wide = SPARK_WIDTH / (len(history) - 1)
    high = SPARK_HEIGHT - 2 * _SPARK_MARGIN
    points = (
        (index * wide, SPARK_HEIGHT - _SPARK_MARGIN - high * value / highest)
        for index, value in enumerate(history)
    )
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _scaling(scaling: Scaling, now: float) -> ScalingView:
    return ScalingView(
        headline=f"{scaling.engine} wants {counted(scaling.desired, 'pod')}",
        facts=tuple((name, text) for name, text in _facts(scaling, now) if text),
        history=tuple(
            (f"{one.before} → {one.after}", one.reason, ago(one.at, now)) for one in scaling.history
        ),
    )


def _facts(scaling: Scaling, now: float) -> tuple[tuple[str, str], ...]:
    start = scaling.cold_start_seconds
    return (
        ("Because of", scaling.reason),
        ("Bounds", f"{scaling.least} to {scaling.most}" if scaling.most else ""),
        ("Wanted for", lasting(scaling.since, now)),
        ("Kept from going on", scaling.message),
        ("Sleep", _sleep(scaling, now)),
        ("Cold start", f"about {duration(start)}" if start is not None else ""),
        ("Last asked", ago(scaling.last_active, now)),
    )


def _sleep(scaling: Scaling, now: float) -> str:
    passed = lasting(scaling.phase_since, now)
    return f"{scaling.phase} for {passed}" if scaling.phase and passed else scaling.phase


def _conditions(model: ServedModel, now: float) -> list[ConditionView]:
    return [
        ConditionView(
            type=one.type,
            status=one.status,
            tone=_tone(one.type, one.status),
            reason=one.reason,
            message=one.message,
            since=ago(one.since, now),
        )
        for one in model.report.conditions
    ]


def _tone(kind: str, status: str) -> Tone:
    """Of those that are not listed, as Progressing, neither is good or bad."""
    if kind in _WANTED and status in _TONES:
        return _TONES[status]
    return Tone.BAD if kind in _UNWANTED and status == "True" else Tone.OPEN
