"""What a rollout needs of the cluster, and what is missing for it."""

from collections.abc import Iterator

from modelserver_operator.apis.rollout import CapacityPolicy, RolloutSpec, Strategy
from modelserver_operator.apis.traffic import Router, Traffic
from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.plan.values import Observed, Plan, ResolutionState
from modelserver_operator.resources.router_choice import router_of

_ROUTED = {Strategy.CANARY, Strategy.BLUE_GREEN, Strategy.HOLD_AND_SWAP}
WITHOUT_ROOM = {Strategy.RECREATE, Strategy.HOLD_AND_SWAP}


def needs_of(server: ModelServer, plan: Plan, *, restarts: bool) -> Iterator[str]:
    """Beside what the server has while nothing changes."""
    rollout = server.spec.rollout or RolloutSpec()
    pods = _extra_pods(plan, rollout)
    if restarts and server.status.serving_revision and pods:
        yield f"room for {pods} more pod{'s' if pods > 1 else ''}{_each(server)}"
    if restarts and server.status.serving_revision and rollout.chosen in _ROUTED:
        yield (
            "the built-in router, in 2 pods beside the model's"
            if _is_built_in(server)
            else f"a route of {(server.spec.traffic or Traffic()).router}"
        )


def _is_built_in(server: ModelServer) -> bool:
    return (server.spec.traffic or Traffic()).router in {Router.AUTO, Router.GATEWAY}


def _extra_pods(plan: Plan, rollout: RolloutSpec) -> int:
    """At the widest moment of the rollout."""
    replicas = plan.sizing.replicas
    if not replicas or rollout.chosen in WITHOUT_ROOM:
        return 0
    is_shifted = rollout.chosen is Strategy.CANARY and (
        rollout.capacity_policy is CapacityPolicy.SHIFT
    )
    return 1 if is_shifted else replicas


def _each(server: ModelServer) -> str:
    resources = server.spec.resources
    amounts = {**resources.limits, **resources.requests}
    named = ", ".join(f"{name} {amount}" for name, amount in sorted(amounts.items()))
    return f", each with {named}" if named else ""


def problems_of(
    server: ModelServer, plan: Plan, observed: Observed, *, golden_set: bool | None
) -> Iterator[str]:
    """Each a sentence with what to do."""
    if plan.resolution.state is ResolutionState.REFUSED:
        yield plan.resolution.message
    for conflict in plan.conflicts:
        yield (
            f"{conflict.kind} {conflict.name} exists and belongs to somebody else; delete it, or"
            " give the ModelServer another name"
        )
    choice = router_of(server.spec.traffic or Traffic(), server.spec.rollout, observed.capabilities)
    if choice.problem:
        yield choice.problem
    if plan.sizing.choice is not None and plan.sizing.choice.problem:
        yield plan.sizing.choice.problem
    preflight = (server.spec.rollout or RolloutSpec()).preflight
    if preflight is not None and golden_set is False:
        cases = preflight.golden_set.config_map_ref
        yield (
            f"There is no ConfigMap {cases.name} with the key {cases.key}, which the golden set of"
            " spec.rollout.preflight names; create it first"
        )
