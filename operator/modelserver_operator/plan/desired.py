"""The planner: what one reconciliation should do, from what it sees."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.config import OperatorConfig
from modelserver_operator.plan.arrangement import Arrangement, Asked, arrange
from modelserver_operator.plan.asking import questions_of
from modelserver_operator.plan.checking import checks_of
from modelserver_operator.plan.children import (
    Wanted,
    desired_children,
    live_revisions,
    scales_of,
)
from modelserver_operator.plan.drift import additions, differences
from modelserver_operator.plan.examining import examination_of
from modelserver_operator.plan.experiments import experiments_of
from modelserver_operator.plan.looks import is_going, key_of
from modelserver_operator.plan.measuring import series_of
from modelserver_operator.plan.phases import (
    mounting_delay_seconds,
    mounting_pods,
    phase_labels,
    starting_pods,
    unmounted_pods,
)
from modelserver_operator.plan.pruning import Pruning, history_to_keep
from modelserver_operator.plan.replacement import replacement_of
from modelserver_operator.plan.resolving import Target, find_target
from modelserver_operator.plan.routing import route_annotations
from modelserver_operator.plan.scaling_question import scaling_question_of
from modelserver_operator.plan.sizing import RevisionScale, sizing_of
from modelserver_operator.plan.values import (
    ChildKey,
    Manifest,
    Observed,
    Plan,
    Write,
    WriteMode,
)
from modelserver_operator.plan.wishes import wish_of
from modelserver_operator.resources.deployment import make_shared_replicas
from modelserver_operator.resources.kinds import CHILD_KINDS, DEPLOYMENT, JOB, OPTIONAL_KINDS
from modelserver_operator.resources.labels import DESIRED_HASH
from modelserver_operator.scaling.handover import is_unowned

PROGRESS_SECONDS = 3.0  # how often starting pods are asked; status shows steps of 5 % anyway

_ORDER = {kind.kind: index for index, kind in enumerate((*CHILD_KINDS, *OPTIONAL_KINDS))}


def desired_state(
    server: ModelServer, observed: Observed, config: OperatorConfig, now: datetime
) -> Plan:
    """`now` is aware and in UTC. A server that is being deleted gets an empty plan."""
    if server.is_being_deleted:
        return Plan(target_revision="", serving_revision="")
    target = find_target(server, observed, config, now)
    name = target.revision.name if target.revision else ""
    sizing = sizing_of(server, observed, config)
    wish = wish_of(server, name, sizing, observed, config)
    tried = experiments_of(server, target, observed, config)
    asked = Asked(server=server, wish=wish, sizing=sizing, tried=tried)
    arrangement = arrange(asked, observed, config, now)
    wanted = _wanted(asked, target, arrangement, observed, config, now)
    desired = {key_of(one): one for one in desired_children(server, wanted, observed, config)}
    pruning = Pruning(
        server=server,
        live=arrangement.live,
        made=frozenset(wanted.live),
        history=history_to_keep(server, observed, arrangement.live, config),
        spent=frozenset(_spent(target, wanted)),
    )
    starting = starting_pods(observed, arrangement.live)
    mounting = mounting_pods(observed, arrangement.live)
    return Plan(
        target_revision=name,
        wanted_revision=arrangement.wanted,
        serving_revision=arrangement.serving,
        wish=wish,
        sizing=sizing,
        scaling_message=_scaling_message(wanted.scales),
        scaling_question=scaling_question_of(server, sizing, arrangement.replicas, observed, now),
        replicas=arrangement.replicas,
        experiments=tuple(one.planned(arrangement.pods) for one in tried),
        tried=arrangement.tried,
        route=arrangement.routing.route if arrangement.routing else None,
        route_version=arrangement.routing.version if arrangement.routing else "",
        preflight=wanted.preflight,
        route_problem=arrangement.route_problem,
        series=series_of(server, observed, now),
        checks=checks_of(server, wish, now),
        questions=questions_of(server, wish, observed, now),
        writes=tuple(_writes(desired, observed, shares_of(server, wanted.scales))),
        pod_labels=tuple(phase_labels(observed)),
        pod_annotations=tuple(route_annotations(observed, arrangement.routing)),
        removals=tuple(pruning.removals(desired, observed)),
        requeue_after_seconds=_soonest(
            target.wait_seconds,
            arrangement.wait_seconds,
            wanted.preflight.wait_seconds,
            PROGRESS_SECONDS if starting else None,
            mounting_delay_seconds(mounting, now),
        ),
        progress_wanted=bool(starting),
        unmounted=unmounted_pods(mounting, now),
        resolution=target.resolution,
        image=target.revision.server_image if target.revision else "",
        conflicts=tuple(sorted(desired.keys() & observed.strangers.keys())),
    )


def _wanted(
    asked: Asked,
    target: Target,
    arrangement: Arrangement,
    observed: Observed,
    config: OperatorConfig,
    now: datetime,
) -> Wanted:
    """The resolving Job stays until its answer is kept in a ControllerRevision."""
    server = asked.server
    known = (target.revision, *(one.revision for one in asked.tried))
    live = live_revisions(arrangement.live, known, observed)
    return Wanted(
        target=target.revision,
        arrangement=arrangement,
        live=live,
        job=target.job,
        examination=examination_of(server, arrangement.examined, live, observed, config, now),
        sizing=asked.sizing,
        scales=scales_of(server, arrangement, live, asked.sizing, observed, config),
    )


def _spent(target: Target, wanted: Wanted) -> Iterator[ChildKey]:
    if target.job is not None and target.is_job_spent:
        yield key_of(target.job)
    if wanted.examination is not None and wanted.examination.seen.is_spent:
        yield key_of(wanted.examination.job)


def _soonest(*delays: float | None) -> float | None:
    return min((max(delay, 0.0) for delay in delays if delay is not None), default=None)


def _scaling_message(scales: Mapping[str, RevisionScale]) -> str:
    return " ".join(one.handover.message for _, one in sorted(scales.items())).strip()


def shares_of(server: ModelServer, scales: Mapping[str, RevisionScale]) -> dict[ChildKey, Write]:
    """Deployments whose number of pods a second manager takes, by which all else waits."""
    shares: dict[ChildKey, Write] = {}
    for revision, scale in scales.items():
        if scale.handover.shared_replicas is None:
            continue
        manifest = make_shared_replicas(server, revision, scale.handover.shared_replicas)
        shares[key_of(manifest)] = Write(
            manifest=manifest, mode=WriteMode.SHARE, reason=scale.handover.message
        )
    return shares


def _writes(
    desired: dict[ChildKey, Manifest], observed: Observed, shares: Mapping[ChildKey, Write]
) -> Iterator[Write]:
    """Pods are given away before others are asked for: there may be room for no more."""

    def turn(key: ChildKey) -> tuple[int, bool, str]:
        return _ORDER[key.kind], _grows(desired[key], observed.children.get(key)), key.name

    for key in sorted(desired, key=turn):
        if key in observed.strangers:
            continue
        write = shares.get(key) or write_of(desired[key], observed.children.get(key))
        if write is not None:
            yield write


def _grows(desired: Manifest, observed: Manifest | None) -> bool:
    has = int((observed or {}).get("spec", {}).get("replicas", 0))
    return int(desired.get("spec", {}).get("replicas", has)) > has


def write_of(desired: Manifest, observed: Manifest | None) -> Write | None:
    """None if the child is as it should be, or cannot be written now."""
    if observed is None:
        return Write(manifest=desired, mode=WriteMode.APPLY, reason="missing")
    if is_going(observed) or desired["kind"] == JOB.kind:  # a Job's pods cannot be changed
        return None
    if foreign := next(additions(desired, observed), None):
        replacement = replacement_of(desired, observed)
        return Write(manifest=replacement, mode=WriteMode.REPLACE, reason=f"addition at {foreign}")
    if reason := _why_applied(desired, observed):
        return Write(manifest=desired, mode=WriteMode.APPLY, reason=reason)
    return None


def _why_applied(desired: Manifest, observed: Manifest) -> str:
    annotations = observed["metadata"].get("annotations", {})
    if annotations.get(DESIRED_HASH) != desired["metadata"]["annotations"][DESIRED_HASH]:
        return "desired state changed"
    if drifted := next(differences(desired, observed), None):
        return f"drift at {drifted}"
    is_taken = desired["kind"] == DEPLOYMENT.kind and is_unowned(desired, observed)
    return "spec.replicas is taken over" if is_taken else ""
