"""How a run begins."""

from modelserver_operator.apis.rollout import RolloutSpec, Strategy
from modelserver_operator.apis.rollout_status import Rollout, RolloutPhase, Weights
from modelserver_operator.apis.status import ModelServerStatus
from modelserver_operator.apis.traffic import Router
from modelserver_operator.rollout import clocks
from modelserver_operator.rollout.effects import is_due, wanted_revision
from modelserver_operator.rollout.frozen import frozen
from modelserver_operator.rollout.sight import Sight, Wish

# An autoscaler of the cluster adds a node in a minute or two; only then is there no room for both.
ROOM_PATIENCE_SECONDS = 180


def run_due(status: ModelServerStatus, sight: Sight, wish: Wish) -> Rollout | None:
    """The run that is to begin now, if one is."""
    if is_due(status, wish):
        return None if _is_settling(status, sight, wish) else begun(status, sight, wish)
    if _has_no_room(status, sight, wish):
        return begun(status, sight, wish, strategy=Strategy.HOLD_AND_SWAP)
    return None


def _is_settling(status: ModelServerStatus, sight: Sight, wish: Wish) -> bool:
    """Pods of a change without examination still end; see `rolling`."""
    old = status.rollout
    is_rolling = old is not None and old.phase is RolloutPhase.SETTLING
    settled = clocks.seconds_since(status.serving_since, sight.now)
    return is_rolling and settled < wish.settle_seconds


def _has_no_room(status: ModelServerStatus, sight: Sight, wish: Wish) -> bool:
    """`Auto` without anything to examine becomes a swap where both revisions do not fit."""
    run, wanted = status.rollout, wanted_revision(status, wish.target)
    if run is None or run.phase is not RolloutPhase.STARTING or not run.from_ or not wanted:
        return False
    is_free = wish.rollout.strategy is Strategy.AUTO and wish.router is Router.GATEWAY
    is_new = wanted == run.to != status.serving_revision
    waited = clocks.seconds_since(run.start_time, sight.now)
    is_without_room = bool(sight.of(wanted).unschedulable) and waited >= ROOM_PATIENCE_SECONDS
    return is_free and is_new and is_without_room


def begun(
    status: ModelServerStatus,
    sight: Sight,
    wish: Wish,
    *,
    strategy: Strategy | None = None,
    before: Rollout | None = None,
) -> Rollout:
    """`before` is a run that gives way to this one; the router stays where it is."""
    to, now = wanted_revision(status, wish.target), clocks.timestamp(sight.now)
    rules = _rules(status, wish, strategy)
    is_recreate = rules.chosen is Strategy.RECREATE
    phase = RolloutPhase.DRAINING if is_recreate else RolloutPhase.PREPARING
    patience = clocks.patience_seconds(phase, rules, 0)
    return Rollout.model_validate(
        {
            "id": f"{wish.generation}-{to}",
            "from": status.serving_revision,
            "to": to,
            "strategy": rules.chosen,
            "phase": phase,
            "start_time": now,
            "phase_since": now,
            "phase_deadline": clocks.later(sight.now, patience),
            "deadline": clocks.later(sight.now, rules.deadline_seconds),
            "spec": frozen(rules),
            "weights": Weights(),
            "routed_at": before.routed_at if before else None,
            "message": f"revision {to} is made beside {status.serving_revision}",
        }
    )


def _rules(status: ModelServerStatus, wish: Wish, strategy: Strategy | None) -> RolloutSpec:
    """With what `Auto` comes to. A kept revision is gone back to at once, not step by step."""
    chosen = strategy or wish.rollout.chosen
    changes: dict[str, object] = {"strategy": chosen}
    if status.rolled_back_to is not None and chosen is Strategy.CANARY:
        changes = {"strategy": Strategy.BLUE_GREEN, "shadow": None, "preflight": None, "steps": ()}
    return wish.rollout.model_copy(update=changes)


def swapped_to(run: Rollout, status: ModelServerStatus, sight: Sight, wish: Wish) -> Rollout:
    """Another target while nothing runs: its pods start instead, once all others are gone."""
    fresh = begun(status, sight, wish, strategy=run.strategy, before=run)
    return fresh.model_copy(
        update={
            "phase": RolloutPhase.DRAINING,
            "weights": run.weights,
            "is_holding_requests": run.is_holding_requests,
        }
    )
