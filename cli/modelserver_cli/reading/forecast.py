"""What a changed ModelServer would come to, by the operator's own planner."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelserver_cli.reading import needs
from modelserver_operator.apis.rollout import RolloutSpec, Strategy
from modelserver_operator.apis.v1alpha1 import ModelServer, parse_model_server
from modelserver_operator.config import OperatorConfig
from modelserver_operator.plan.desired import desired_state
from modelserver_operator.plan.values import Observed, Plan
from modelserver_operator.plan.wishes import wish_of
from modelserver_operator.rollout.effects import is_governed
from modelserver_operator.rollout.machine import decide
from modelserver_operator.rollout.sight import Sight

type Manifest = dict[str, Any]

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_ABSENT = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldChange:
    """A value is None where there is none."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildChange:
    verb: str
    """`make`, `change` or `remove`."""
    kind: str
    name: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """`children` are the first of the objects to change: those that go at the end are not in it."""

    name: str
    namespace: str
    is_new: bool
    fields: tuple[FieldChange, ...]
    children: tuple[ChildChange, ...] = ()
    serving: str = ""
    target: str = ""
    restarts: bool | None = None
    """Whether pods are started anew; None while that is not known."""
    pods: str = ""
    strategy: str = ""
    steps: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def has_changes(self) -> bool:
        return self.is_new or bool(self.fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the planner looks at. `golden_set` says whether the ConfigMap has the key, if asked."""

    observed: Observed
    config: OperatorConfig
    now: datetime
    golden_set: bool | None = None
    notes: tuple[str, ...] = ()


def forecast(live: Manifest | None, wanted: Manifest, world: World) -> Forecast:
    """`wanted` is what the API server would store."""
    fields = tuple(differences(live, wanted)) if live else ()
    metadata = wanted["metadata"]
    where = {"name": metadata["name"], "namespace": metadata["namespace"]}
    if live is not None and not fields:
        return Forecast(**where, is_new=False, fields=(), notes=world.notes)
    status = (live or {}).get("status") or {}
    server = parse_model_server({**wanted, "status": status})
    plan = desired_state(server, world.observed, world.config, world.now)
    restarts, pods = _pods(server, plan, live)
    return Forecast(
        **where,
        is_new=live is None,
        fields=fields,
        children=tuple(_children(server, plan, world)),
        serving=server.status.serving_revision,
        target=plan.target_revision,
        restarts=restarts,
        pods=pods,
        strategy=_strategy(server, restarts=restarts),
        steps=tuple(_steps(server)) if restarts and server.status.serving_revision else (),
        needs=tuple(needs.needs_of(server, plan, restarts=bool(restarts))),
        problems=tuple(
            needs.problems_of(server, plan, world.observed, golden_set=world.golden_set)
        ),
        notes=world.notes,
    )


def differences(live: Manifest, wanted: Manifest) -> Iterator[FieldChange]:
    yield from _differences(live.get("spec"), wanted.get("spec"), "spec")
    for key in ("labels", "annotations"):
        before, after = (_plain(one["metadata"].get(key)) for one in (live, wanted))
        yield from _differences(before, after, f"metadata.{key}")


def _plain(values: Mapping[str, str] | None) -> dict[str, str]:
    return {key: value for key, value in (values or {}).items() if key != _LAST_APPLIED}


def _differences(before: Any, after: Any, path: str) -> Iterator[FieldChange]:
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from _differences(
                before.get(key, _ABSENT), after.get(key, _ABSENT), f"{path}.{key}"
            )
        return
    values = (None if one is _ABSENT else one for one in (before, after))
    yield FieldChange(path=path, before=next(values), after=next(values))


def _children(server: ModelServer, plan: Plan, world: World) -> Iterator[ChildChange]:
    """By the next reconciliation, and the one after it where a rollout begins."""
    plans = [plan, *_begun(server, plan, world)]
    seen: dict[tuple[str, str], ChildChange] = {}
    for one in plans:
        for change in _changes(one, world.observed):
            seen.setdefault((change.kind, change.name), change)
    yield from seen.values()


def _begun(server: ModelServer, plan: Plan, world: World) -> Iterator[Plan]:
    """A run is stored before it has an effect: what it will do is seen by storing it here."""
    wish = wish_of(server, plan.target_revision, plan.sizing, world.observed, world.config)
    if not is_governed(server.status, wish):
        return
    begun = decide(server.status, Sight(now=world.now), wish).status
    stored = server.model_copy(update={"status": begun})
    yield desired_state(stored, world.observed, world.config, world.now)


def _changes(plan: Plan, observed: Observed) -> Iterable[ChildChange]:
    known = {(key.kind, key.name) for key in observed.children}
    for write in plan.writes:
        kind, name = write.manifest["kind"], write.manifest["metadata"]["name"]
        verb = "change" if (kind, name) in known else "make"
        yield ChildChange(verb=verb, kind=kind, name=name, reason=write.reason)
    for removal in plan.removals:
        key = removal.key
        yield ChildChange(verb="remove", kind=key.kind, name=key.name, reason=removal.reason)


def _pods(server: ModelServer, plan: Plan, live: Manifest | None) -> tuple[bool | None, str]:
    status, target = server.status, plan.target_revision
    if not target:
        missing = plan.resolution.message or "the model has to be resolved"
        return (
            None,
            f"they restart if the revision is another one, which is not known yet: {missing}",
        )
    if live is None or not status.serving_revision:
        replicas = plan.sizing.replicas
        pods = f"{replicas} pod{'s' if replicas != 1 else ''} of revision {target} start"
        return True, f"{pods}; nothing serves yet, so it serves as soon as it is ready"
    failure = next((one for one in status.failed_revisions if one.revision == target), None)
    if failure is not None:
        return False, (
            f"revision {target} has failed before ({failure.reason}) and is not tried again without"
            f" `modelserver retry {server.name}`"
        )
    if target == status.serving_revision:
        return False, f"no pod restarts: revision {target} serves already"
    return True, _replacement(server, target)


def _replacement(server: ModelServer, target: str) -> str:
    old, rollout = server.status.serving_revision, server.spec.rollout or RolloutSpec()
    if rollout.chosen in needs.WITHOUT_ROOM:
        return f"those of revision {old} end, then those of {target} start"
    return f"those of revision {target} start; those of {old} end when it has taken over"


def _strategy(server: ModelServer, *, restarts: bool | None) -> str:
    if restarts is False or not server.status.serving_revision:
        return ""
    return str((server.spec.rollout or RolloutSpec()).chosen)


def _steps(server: ModelServer) -> Iterator[str]:
    """The way of the rollout, in its order."""
    rollout = server.spec.rollout or RolloutSpec()
    if rollout.chosen not in {Strategy.CANARY, Strategy.BLUE_GREEN}:
        return
    if rollout.preflight is not None:
        cases = rollout.preflight.golden_set.config_map_ref.name
        yield f"golden set {cases}: {rollout.preflight.min_pass_percent} % of the cases must pass"
    if rollout.shadow is not None:
        shadow = rollout.shadow
        yield (
            f"shadow: {shadow.percent} % of the requests are copied for {shadow.hold_seconds} s"
            f" and {shadow.min_pairs} compared answers at least"
        )
    for step in rollout.run_steps:
        yield f"{step.weight_percent} % for {step.hold_seconds} s at least"
    yield f"the old revision is kept for {rollout.bake_seconds} s"
