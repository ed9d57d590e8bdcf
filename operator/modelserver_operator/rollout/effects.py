"""What a stored status asks of the world: the only source of a rollout's effects."""

from collections.abc import Mapping
from dataclasses import dataclass

from modelserver_operator.apis.rollout import (
    WHOLE,
    CapacityPolicy,
    RolloutSpec,
    Shadow,
    Strategy,
)
from modelserver_operator.apis.rollout_status import Rollout, RolloutPhase
from modelserver_operator.apis.status import ModelServerStatus
from modelserver_operator.apis.traffic import Router
from modelserver_operator.rollout.capacity import next_share, pods_for
from modelserver_operator.rollout.frozen import is_swap, rules_of
from modelserver_operator.rollout.sight import Wish


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """Children of a run, by the status that was read. Nothing here depends on the time.

    `replicas` names the live revisions; all others go. `weights` sum to 100. `root` is the revision
    that the Service leads to where `is_root_routed` does not send it to the built-in router. A
    router, of whatever kind, has a route to carry out where `is_router_wanted`.
    """

    replicas: Mapping[str, int]
    stable: str
    root: str
    is_root_routed: bool
    is_router_wanted: bool
    weights: Mapping[str, int]
    mirror: Shadow | None = None  # requests are copied to `mirrored`
    mirrored: str = ""
    is_holding_requests: bool = False
    preflight: str = ""  # the revision that the golden set shall be asked of; "" for none


def is_governed(status: ModelServerStatus, wish: Wish) -> bool:
    """Whether `effects_of` says what lives, and not the rule for `Rolling`."""
    return is_going_on(status.rollout) or is_due(status, wish)


def is_going_on(run: Rollout | None) -> bool:
    return run is not None and run.is_decided_by_evidence and not run.is_over


def is_due(status: ModelServerStatus, wish: Wish) -> bool:
    """Whether a run is to begin. Before anything has served there is nothing to compare with."""
    serving, wanted = status.serving_revision, wanted_revision(status, wish.target)
    is_other = bool(serving and wanted) and wanted != serving
    return is_other and wish.rollout.chosen is not Strategy.ROLLING


def asked_revision(status: ModelServerStatus, spec_revision: str) -> str:
    """What somebody wants to serve, in the spec or by the command `rollback-to`."""
    command = status.rolled_back_to
    is_obeyed = command is not None and spec_revision in {"", command.instead_of}
    return command.revision if command is not None and is_obeyed else spec_revision


def wanted_revision(status: ModelServerStatus, spec_revision: str) -> str:
    """What is to serve: the spec's revision, unless a command or a failure says otherwise."""
    asked = asked_revision(status, spec_revision)
    has_failed = any(one.revision == asked for one in status.failed_revisions)
    return status.serving_revision if has_failed and status.serving_revision else asked


def effects_of(status: ModelServerStatus, wish: Wish) -> Effects:
    """Only for a status that `is_governed`."""
    run = status.rollout
    if run is None or not is_going_on(run):
        return _at_rest(status, wish)
    rules = rules_of(run)
    shadow = rules.shadow if run.mirror_percent else None
    return Effects(
        replicas=replicas_of(run, rules, wish.replicas),
        stable=_stable(run),
        root=_root(run, status.serving_revision),
        is_root_routed=_is_root_routed(run, wish),
        is_router_wanted=_needs_route(run, wish),
        weights={run.from_: WHOLE - run.weights.intended, run.to: run.weights.intended},
        mirror=shadow,
        mirrored=run.to if shadow else "",
        is_holding_requests=run.is_holding_requests,
        preflight=run.to if run.phase is RolloutPhase.PREFLIGHT else "",
    )


def _at_rest(status: ModelServerStatus, wish: Wish) -> Effects:
    """Until the run that is due has been stored. Old pods that still end are left their time."""
    serving, old = status.serving_revision, status.rollout
    is_settling = old is not None and old.phase is RolloutPhase.SETTLING and not old.is_over
    settling = {old.from_} if old is not None and is_settling and old.from_ else set()
    return Effects(
        replicas=dict.fromkeys(sorted({serving, *settling}), wish.replicas),
        stable=serving,
        root=serving,
        is_root_routed=False,
        is_router_wanted=False,
        weights={serving: WHOLE},
    )


def _stable(run: Rollout) -> str:
    """Who answers where another cannot: of a swap whoever has pods when requests are let go."""
    return run.to if is_swap(run) and run.weights.intended == WHOLE else run.from_


def _root(run: Rollout, serving: str) -> str:
    """Where the Service leads past the router: what serves, as soon as the status says so."""
    return run.to if serving == run.to else run.from_


def _is_root_routed(run: Rollout, wish: Wish) -> bool:
    """Experiments may keep it there when the run has left it."""
    is_leaving = run.settling_since is not None
    return wish.router is Router.GATEWAY and run.routed_at is not None and not is_leaving


def _needs_route(run: Rollout, wish: Wish) -> bool:
    return wish.router is not Router.NONE and run.strategy is not Strategy.RECREATE


def replicas_of(run: Rollout, rules: RolloutSpec, replicas: int) -> dict[str, int]:
    """Each side has the pods for what it may get now and for what it gets next."""
    if is_swap(run):
        return _swapped(run, replicas)
    old, new = _stable_pods(run, rules, replicas), _new_pods(run, rules, replicas)
    return {run.from_: old, run.to: new}


def goal_of(run: Rollout, rules: RolloutSpec) -> int:
    """The weight that the phase leads to."""
    if run.phase is RolloutPhase.ROLLING_BACK:
        return 0
    if run.phase is RolloutPhase.STEPPING:
        return rules.run_steps[run.step_index].weight_percent
    return run.weights.intended


def next_weight(run: Rollout, rules: RolloutSpec, replicas: int) -> int:
    """After the next move, when the present weight is confirmed."""
    goal, now, policy = goal_of(run, rules), run.weights.intended, rules.capacity_policy
    if goal >= now:
        return next_share(now, goal, replicas, policy)
    return WHOLE - next_share(WHOLE - now, WHOLE - goal, replicas, policy)


def _new_pods(run: Rollout, rules: RolloutSpec, replicas: int) -> int:
    weights = run.weights
    may_get = [weights.intended, weights.confirmed, examined_share(run, rules)]
    if weights.confirmed_at is not None or _has_yet_to_begin(run):
        may_get.append(next_weight(run, rules, replicas))
    return pods_for(replicas, max(may_get), rules.capacity_policy)


def _has_yet_to_begin(run: Rollout) -> bool:
    """Its pods are about to be needed while routers learn that nothing is copied any more."""
    return run.phase is RolloutPhase.STEPPING and run.weights.intended == 0


def examined_share(run: Rollout, rules: RolloutSpec) -> int:
    """Before it gets any weight it is as large as its first weight, or the copies, need."""
    if run.phase not in _BEFORE_STEPS:
        return 0
    if rules.capacity_policy is CapacityPolicy.SHIFT:
        return 1
    return max(rules.run_steps[0].weight_percent, rules.shadow.percent if rules.shadow else 0)


_BEFORE_STEPS = {RolloutPhase.PREPARING, RolloutPhase.PREFLIGHT, RolloutPhase.SHADOWING}


def _stable_pods(run: Rollout, rules: RolloutSpec, replicas: int) -> int:
    if rules.capacity_policy is CapacityPolicy.SURGE:
        return replicas
    weights = run.weights
    least = min(weights.intended, weights.confirmed)
    if weights.confirmed_at is not None:
        least = min(least, next_weight(run, rules, replicas))
    return pods_for(replicas, WHOLE - least, rules.capacity_policy)


def _swapped(run: Rollout, replicas: int) -> dict[str, int]:
    """Never both: what is to end has ended before what is to start starts."""
    old = new = 0
    match run.phase:
        case RolloutPhase.PREPARING:
            old = replicas
        case RolloutPhase.DRAINING:
            old = 0 if _is_hold_confirmed(run) else replicas
        case RolloutPhase.ROLLING_BACK if run.is_restoring:
            old = replicas
        case RolloutPhase.ROLLING_BACK:
            new = 0 if _is_hold_confirmed(run) else replicas
        case _:
            new = replicas
    return {run.from_: old, run.to: new}


def _is_hold_confirmed(run: Rollout) -> bool:
    """Recreate holds nothing: its requests fail, as its user chose."""
    return run.strategy is Strategy.RECREATE or run.weights.confirmed_at is not None
