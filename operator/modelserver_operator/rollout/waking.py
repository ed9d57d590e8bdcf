"""When to look at a run again, though nothing in the cluster has changed."""

from collections.abc import Iterator

from modelserver_operator.apis.rollout_status import Rollout, RolloutPhase
from modelserver_operator.apis.status import ModelServerStatus
from modelserver_operator.rollout import clocks
from modelserver_operator.rollout.effects import is_going_on
from modelserver_operator.rollout.evidence import is_counting
from modelserver_operator.rollout.failures import UNREADY_PATIENCE_SECONDS
from modelserver_operator.rollout.frozen import analysis_of, rules_of
from modelserver_operator.rollout.retreat import CAPACITY_PATIENCE_SECONDS
from modelserver_operator.rollout.sight import Sight, Wish

# Routers are no objects that are watched: they are asked. A kubelet takes about a second.
CONFIRMATION_SECONDS = 2.0
_SHORTEST = 0.5


def wake_seconds(status: ModelServerStatus, sight: Sight, wish: Wish) -> float | None:
    run = status.rollout
    if run is None or not is_going_on(run):
        return None
    soonest = min((one for one in _delays(run, sight, wish) if one is not None), default=None)
    return None if soonest is None else max(soonest, _SHORTEST)


def _delays(run: Rollout, sight: Sight, wish: Wish) -> Iterator[float | None]:
    rules = rules_of(run)
    if run.weights.confirmed_at is None:
        yield CONFIRMATION_SECONDS
    if is_counting(run):
        interval = analysis_of(rules).interval_seconds
        counted = clocks.seconds_since(run.counted_at, sight.now) if run.counted_at else interval
        yield interval - counted if counted < interval else interval
    for begun in (run.settling_since, run.routed_at if _waits_for_router(run) else None):
        if begun:
            yield wish.settle_seconds - clocks.seconds_since(begun, sight.now)
    if run.unready_since:
        yield UNREADY_PATIENCE_SECONDS - clocks.seconds_since(run.unready_since, sight.now)
    if run.phase is RolloutPhase.ROLLING_BACK and run.weights.intended:
        yield CAPACITY_PATIENCE_SECONDS - clocks.seconds_since(run.phase_since, sight.now)
    if run.paused is None:
        yield clocks.seconds_until(run.phase_deadline, sight.now)
        yield clocks.seconds_until(run.deadline, sight.now)


def _waits_for_router(run: Rollout) -> bool:
    return run.phase is RolloutPhase.PREPARING
