"""The planner: what one reconciliation should do, from what it sees."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.config import OperatorConfig
from modelserver_operator.plan.children import (
    Wanted,
    desired_children,
    history_to_keep,
    live_revisions,
)
from modelserver_operator.plan.drift import additions, differences
from modelserver_operator.plan.looks import is_going, key_of, revision_label
from modelserver_operator.plan.phases import phase_labels, starting_pods
from modelserver_operator.plan.replacement import replacement_of
from modelserver_operator.plan.resolving import Target, find_target
from modelserver_operator.plan.rolling import Rolling, roll
from modelserver_operator.plan.values import (
    ChildKey,
    Manifest,
    Observed,
    Plan,
    Removal,
    Write,
    WriteMode,
)
from modelserver_operator.resources.kinds import CHILD_KINDS, CONTROLLER_REVISION, JOB
from modelserver_operator.resources.labels import DESIRED_HASH

PROGRESS_SECONDS = 3.0  # how often starting pods are asked; status shows steps of 5 % anyway

_ORDER = {kind.kind: index for index, kind in enumerate(CHILD_KINDS)}


def desired_state(
    server: ModelServer, observed: Observed, config: OperatorConfig, now: datetime
) -> Plan:
    """`now` is aware and in UTC. A server that is being deleted gets an empty plan."""
    if server.is_being_deleted:
        return Plan(target_revision="", serving_revision="")
    target = find_target(server, observed, config, now)
    name = target.revision.name if target.revision else ""
    rolling = roll(server, name, observed, now)
    wanted = _wanted(target, rolling, observed)
    desired = {key_of(one): one for one in desired_children(server, wanted, observed, config)}
    asked = starting_pods(observed, rolling.live)
    return Plan(
        target_revision=name,
        serving_revision=rolling.serving,
        writes=tuple(_writes(desired, observed)),
        pod_labels=tuple(phase_labels(observed)),
        removals=tuple(_removals(desired, observed, target, rolling, config)),
        requeue_after_seconds=_soonest(
            target.wait_seconds, rolling.wait_seconds, PROGRESS_SECONDS if asked else None
        ),
        progress_wanted=bool(asked),
        resolution=target.resolution,
        image=target.revision.server_image if target.revision else "",
        conflicts=tuple(sorted(desired.keys() & observed.strangers.keys())),
    )


def _wanted(target: Target, rolling: Rolling, observed: Observed) -> Wanted:
    """The resolving Job stays until its answer is kept in a ControllerRevision."""
    live = live_revisions(rolling.live, target.revision, observed)
    return Wanted(target=target.revision, serving=rolling.serving, live=live, job=target.job)


def _soonest(*delays: float | None) -> float | None:
    return min((max(delay, 0.0) for delay in delays if delay is not None), default=None)


def _writes(desired: dict[ChildKey, Manifest], observed: Observed) -> Iterator[Write]:
    for key in sorted(desired, key=lambda one: (_ORDER[one.kind], one.name)):
        if key in observed.strangers:
            continue
        write = write_of(desired[key], observed.children.get(key))
        if write is not None:
            yield write


def write_of(desired: Manifest, observed: Manifest | None) -> Write | None:
    """None if the child is as it should be, or cannot be written now."""
    if observed is None:
        return Write(manifest=desired, mode=WriteMode.APPLY, reason="missing")
    if is_going(observed) or desired["kind"] == JOB.kind:  # a Job's pods cannot be changed
        return None
    if foreign := next(additions(desired, observed), None):
        replacement = replacement_of(desired, observed)
        return Write(manifest=replacement, mode=WriteMode.REPLACE, reason=f"addition at {foreign}")
    annotations = observed["metadata"].get("annotations", {})
    if annotations.get(DESIRED_HASH) != desired["metadata"]["annotations"][DESIRED_HASH]:
        return Write(manifest=desired, mode=WriteMode.APPLY, reason="desired state changed")
    if drifted := next(differences(desired, observed), None):
        return Write(manifest=desired, mode=WriteMode.APPLY, reason=f"drift at {drifted}")
    return None


def _removals(
    desired: dict[ChildKey, Manifest],
    observed: Observed,
    target: Target,
    rolling: Rolling,
    config: OperatorConfig,
) -> Iterator[Removal]:
    kept = _kept_history(observed, target, rolling, config)
    for key, child in sorted(observed.children.items()):
        if is_going(child):
            continue
        uid = child["metadata"].get("uid", "")
        if key.kind == JOB.kind and key in desired and target.is_job_spent:
            yield Removal(key=key, uid=uid, reason="ended without an answer")
        elif key not in desired and not _stays(key, child, kept, rolling.live, desired):
            yield Removal(key=key, uid=uid, reason=_why_not_wanted(child, rolling))


def _kept_history(
    observed: Observed, target: Target, rolling: Rolling, config: OperatorConfig
) -> set[str]:
    limit = config.history_limit if target.revision else len(observed.children)
    return history_to_keep(observed, rolling.live, limit)


def _stays(
    key: ChildKey,
    child: Manifest,
    history: set[str],
    live: Iterable[str],
    desired: dict[ChildKey, Manifest],
) -> bool:
    """History; and a live revision that cannot be made anew is left as it is."""
    if key.kind == CONTROLLER_REVISION.kind and key.name in history:
        return True
    revision = revision_label(child)
    is_known = any(revision_label(one) == revision for one in desired.values())
    return revision in set(live) and not is_known


def _why_not_wanted(child: Manifest, rolling: Rolling) -> str:
    revision = revision_label(child)
    if revision and revision not in rolling.live:
        return f"revision {revision} is not served any more"
    return "not wanted any more"
