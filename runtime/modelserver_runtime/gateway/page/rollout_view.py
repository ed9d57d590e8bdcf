"""A rollout and experiments as the page shows them. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from modelserver_runtime.gateway.cluster.report import Experiment, Gate, Rollout, Side, Track
from modelserver_runtime.gateway.page.words import (
    NOTHING,
    ago,
    counted,
    sentence,
    spaced,
)


class Tone(StrEnum):
    """What a colour says again that the words say."""

    GOOD = "good"
    BAD = "bad"
    OPEN = "open"


_OUTCOMES = {"Passing": Tone.GOOD, "Failing": Tone.BAD}
_ENDS = {"Succeeded": Tone.GOOD, "RolledBack": Tone.BAD, "RollingBack": Tone.BAD}


@dataclass(frozen=True, slots=True, kw_only=True)
class GateView:
    name: str
    outcome: str
    tone: Tone
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SideView:
    revision: str
    requests: str
    failed: str
    slow: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutView:
    """`percent` is the new revision's share, None where no share of requests decides it.

    `notes` are what keeps it, or what it does beside: a word and a sentence each.
    """

    title: str
    phase: str
    tone: Tone
    is_over: bool
    facts: str
    message: str
    source: str
    target: str
    percent: int | None
    weight: str
    notes: tuple[tuple[str, str], ...]
    gates: tuple[GateView, ...]
    sides: tuple[SideView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackView:
    name: str
    requests: str
    failed: str
    p50: str
    p90: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentView:
    name: str
    phase: str
    message: str
    pods: str
    tracks: tuple[TrackView, ...]


def rollout_view(run: Rollout, now: float) -> RolloutView:
    is_weighed = bool(run.strategy) and not run.is_over
    return RolloutView(
        title=_title(run),
        phase=spaced(run.phase),
        tone=_ENDS.get(run.phase, Tone.OPEN),
        is_over=run.is_over,
        facts=" · ".join(_facts(run, now)),
        message=sentence(run.message),
        source=run.source,
        target=run.target,
        percent=run.intended_percent if is_weighed else None,
        weight=_weight(run) if is_weighed else "",
        notes=tuple(_notes(run)),
        gates=tuple(map(_gate, run.gates)),
        sides=tuple(map(_side, run.sides)),
    )


def experiment_view(one: Experiment) -> ExperimentView:
    return ExperimentView(
        name=one.name,
        phase=one.phase,
        message=one.message,
        pods=f"{one.ready} of {one.wanted} pods ready",
        tracks=(
            _track(f"revision {one.revision}" if one.revision else "its revision", one.answered),
            _track("stable, in the same time", one.stable),
        ),
    )


def _title(run: Rollout) -> str:
    match run.phase:
        case "Succeeded":
            return f"Last rollout: {run.target} took over"
        case "RolledBack":
            return f"Last rollout: {run.target} was rolled back"
        case "RollingBack":
            return f"Rolling {run.target} back"
        case _:
            return f"Rolling {run.target} out"


def _facts(run: Rollout, now: float) -> Iterator[str]:
    if run.strategy:
        yield spaced(run.strategy)
    if run.steps and not run.is_over:
        yield f"step {min(run.step, len(run.steps))} of {len(run.steps)}"
    if began := ago(run.began, now):
        yield f"began {began}"


def _weight(run: Rollout) -> str:
    intended, confirmed = run.intended_percent, run.confirmed_percent
    if confirmed != intended:
        return f"{intended} % intended; it may be getting up to {confirmed} % by now"
    if not intended:
        return "No client gets answers of it yet"
    observed = f", {run.observed_percent} % observed" if run.observed_percent else ""
    return f"{intended} % of the requests{observed}"


def _notes(run: Rollout) -> Iterator[tuple[str, str]]:
    if run.paused_by and not run.is_over:
        yield "Paused", f"by {run.paused_by}"
    if run.holding and run.holding != run.message and not run.is_over:
        yield "Waits", sentence(run.holding)
    if run.mirror_percent and not run.is_over:
        yield "Copies", f"{run.mirror_percent} % of the requests are copied to {run.target}"
    if run.evidence:
        yield "Why", sentence(run.evidence)


def _gate(gate: Gate) -> GateView:
    return GateView(
        name=spaced(gate.name),
        outcome=gate.outcome,
        tone=_OUTCOMES.get(gate.outcome, Tone.OPEN),
        message=gate.message,
    )


def _side(side: Side) -> SideView:
    return SideView(
        revision=side.revision,
        requests=f"{side.requests:,}",
        failed=_percent(side.errors_percent),
        slow=_percent(side.slow_percent),
    )


def _track(name: str, track: Track) -> TrackView:
    return TrackView(
        name=name,
        requests=counted(track.requests, "request"),
        failed=_percent(track.errors_percent),
        p50=_milliseconds(track.p50_milliseconds),
        p90=_milliseconds(track.p90_milliseconds),
    )


def _percent(decimals: str) -> str:
    return f"{decimals} %" if decimals else NOTHING


def _milliseconds(value: int | None) -> str:
    return NOTHING if value is None else f"{value:,} ms"
