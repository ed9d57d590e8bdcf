"""The times of a run: all absolute and stored, so that they outlive every process.

A clock that is set back must not make a run wait for ever: a stored time that lies in the future
counts as now, and a deadline is never further away than it was when it was set. A clock that is set
forward looks like an operator that was away: it can cut a hold short or let a deadline pass, but no
step passes without its requests, which no clock can bring about.
"""

from datetime import datetime, timedelta

from modelserver_operator.apis.rollout import RolloutSpec
from modelserver_operator.apis.rollout_status import Paused, Rollout, RolloutPhase
from modelserver_operator.rollout.frozen import analysis_of

_SINCE = ("phase_since", "step_entered_at", "settling_since", "routed_at", "unready_since")
_MOVED_BY_PAUSES = ("step_entered_at", "phase_since", "phase_deadline", "deadline")

# Beyond what the golden set may take: its pod has to be started.
PREFLIGHT_START_SECONDS = 300


def timestamp(moment: datetime) -> str:
    """As metav1.Time: RFC 3339 in UTC, whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def parse(text: str) -> datetime:
    return datetime.fromisoformat(text)


def later(now: datetime, seconds: float) -> str:
    return timestamp(now + timedelta(seconds=seconds))


def seconds_since(text: str | None, now: datetime) -> float:
    """0 for a time that is not set or lies in the future."""
    return max(0.0, (now - parse(text)).total_seconds()) if text else 0.0


def seconds_until(text: str | None, now: datetime) -> float | None:
    return (parse(text) - now).total_seconds() if text else None


def has_passed(text: str | None, now: datetime) -> bool:
    return text is not None and parse(text) <= now


def patience_seconds(phase: RolloutPhase, rules: RolloutSpec, step_index: int) -> float:
    """How long a phase may last before the rule for timeouts holds."""
    match phase:
        case RolloutPhase.PREPARING | RolloutPhase.DRAINING | RolloutPhase.SWAPPING:
            return rules.prepare_deadline_seconds
        case RolloutPhase.PREFLIGHT:
            taken = rules.preflight.timeout_seconds if rules.preflight else 0
            return taken + PREFLIGHT_START_SECONDS
        case RolloutPhase.SHADOWING:
            held = rules.shadow.hold_seconds if rules.shadow else 0
        case RolloutPhase.ANALYZING:
            held = rules.run_steps[step_index].hold_seconds
        case RolloutPhase.BAKING:
            held = rules.bake_seconds
        case _:
            held = 0
    return held + rules.step_deadline_seconds


def mended(run: Rollout, rules: RolloutSpec, now: datetime) -> Rollout:
    """Where the clock was set back: no stored time is in the future, no deadline out of reach."""
    changes: dict[str, object] = {}
    for name in _SINCE:
        changes |= _not_after(run, name, now)
    if run.holding is not None and parse(run.holding.since) > now:
        changes["holding"] = run.holding.model_copy(update={"since": timestamp(now)})
    patience = patience_seconds(run.phase, rules, run.step_index)
    changes |= _not_after(run, "phase_deadline", now + timedelta(seconds=patience))
    whole = timedelta(seconds=rules.deadline_seconds)
    changes |= _not_after(run, "deadline", now + whole)
    return run.model_copy(update=changes) if changes else run


def believed(text: str | None, now: datetime) -> str | None:
    """A time in the past as it is; one that lies in the future is now."""
    return timestamp(now) if text and parse(text) > now else text


def _not_after(run: Rollout, name: str, latest: datetime) -> dict[str, object]:
    text = getattr(run, name)
    return {name: timestamp(latest)} if text and parse(text) > latest else {}


def paused(run: Rollout, by: str, now: datetime) -> Rollout:
    return run.model_copy(update={"paused": Paused(by=by, since=timestamp(now)), "holding": None})


def resumed(run: Rollout, rules: RolloutSpec, now: datetime) -> Rollout:
    if run.paused is None:
        return run
    going = moved_on(run, rules, since=run.paused.since, now=now)
    return going.model_copy(update={"paused": None})


def moved_on(run: Rollout, rules: RolloutSpec, *, since: str, now: datetime) -> Rollout:
    """All times go on from where they stood at `since`; deadlines that had passed begin anew."""
    pause = timedelta(seconds=seconds_since(since, now))
    changes = {
        name: timestamp(parse(text) + pause)
        for name in _MOVED_BY_PAUSES
        if (text := getattr(run, name))
    }
    return _with_fresh_deadlines(run.model_copy(update=changes), rules, now)


def _with_fresh_deadlines(run: Rollout, rules: RolloutSpec, now: datetime) -> Rollout:
    changes: dict[str, str] = {}
    if has_passed(run.phase_deadline, now):
        patience = patience_seconds(run.phase, rules, run.step_index)
        changes["phase_deadline"] = later(now, patience)
    if has_passed(run.deadline, now):
        changes["deadline"] = later(now, rules.deadline_seconds)
    return run.model_copy(update=changes)


def is_count_due(run: Rollout, rules: RolloutSpec, now: datetime) -> bool:
    """Whether counters are to be asked at this look."""
    interval = analysis_of(rules).interval_seconds
    return (
        run.counted_at is None
        or parse(run.counted_at) > now
        or (seconds_since(run.counted_at, now) >= interval)
    )
