"""What a reconciliation sees (Observed) and what it wants done (Plan): plain values, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from modelserver_operator.plan.answers import (
    NO_QUESTIONS,
    NOTHING_HEARD,
    Heard,
    Measured,
    Questions,
    SeriesQuestion,
)
from modelserver_operator.plan.checking import NO_CHECKS, Checks
from modelserver_operator.plan.scaling_values import (
    NO_SIZING,
    NOTHING_SCALED,
    ScalingObserved,
    ScalingQuestion,
    Sizing,
)
from modelserver_operator.resources.route import Route
from modelserver_operator.resources.router_choice import NO_CAPABILITIES, Capabilities
from modelserver_operator.rollout.preflight import PreflightSeen
from modelserver_operator.rollout.sight import CheckAnswer, Wish

type Manifest = dict[str, Any]

NO_PREFLIGHT = PreflightSeen()


@dataclass(frozen=True, slots=True, order=True)
class ChildKey:
    """A child inside its ModelServer's namespace."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PodProgress:
    """What a pod that is not ready said on `GET /startupz`."""

    phase: str
    percent: float
    done_bytes: int
    total_bytes: int
    eta_seconds: float | None
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The world as one reconciliation sees it.

    `children` are owned by the server's uid; `strangers` bear a name that we want (or carry our
    labels) but belong to somebody else; `pods` are the pods of the server's Deployments and Jobs;
    `mount_failures` says by pod why its volumes cannot be mounted; `capabilities` are those of the
    cluster; `heard` is what pods said about the requests of a rollout.
    """

    children: Mapping[ChildKey, Manifest]
    strangers: Mapping[ChildKey, Manifest]
    pods: tuple[Manifest, ...]
    progress: Mapping[str, PodProgress]
    mount_failures: Mapping[str, str] = MappingProxyType({})
    capabilities: Capabilities = NO_CAPABILITIES
    heard: Heard = NOTHING_HEARD
    measured: Measured | None = None  # by Prometheus, if it was asked
    checks: tuple[CheckAnswer, ...] | None = None  # of queries and webhooks, if they were asked
    scaling: ScalingObserved = NOTHING_SCALED


class WriteMode(StrEnum):
    """Apply is server-side apply; Replace is a PUT that also removes fields set by others.

    Share is server-side apply by a second manager, of the few fields that it shall keep.
    """

    APPLY = "Apply"
    REPLACE = "Replace"
    SHARE = "Share"


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One child to write, complete with ownerReference, labels and desired hash."""

    manifest: Manifest
    mode: WriteMode
    reason: (
        str  # why, for logs and `plan` output: "missing", "desired state changed", "drift at ..."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """One child to delete; the uid is a precondition."""

    key: ChildKey
    uid: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PodLabel:
    """A label to set on a pod of ours; the uid is a precondition."""

    pod: str
    uid: str
    label: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PodAnnotation:
    """An annotation to set on a pod of ours; the uid is a precondition."""

    pod: str
    uid: str
    annotation: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A write that the API server did not accept (`errors.Rejected`, `errors.Forbidden`).

    The shell hands these to `status_of`, which turns them into a diagnosis.
    """

    key: ChildKey
    status: int  # of HTTP
    message: str  # of the API server, as it came


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedExperiment:
    """An experiment of the spec. `reason` and `problem` say why it cannot be, if so."""

    name: str
    revision: str  # "" if it is not known
    replicas: int  # that its revision has
    reason: str = ""
    problem: str = ""


class ResolutionState(StrEnum):
    RESOLVED = "Resolved"
    RESOLVING = "Resolving"
    REFUSED = "Refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """What is known of the model that the spec asks for."""

    state: ResolutionState
    commit: str = ""  # of hf:// once resolved
    reason: str = ""  # why it is refused or what is waited for, for a condition
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do, in this order: writes, what is set on pods, removals; then look again."""

    target_revision: (
        str  # the revision that the spec asks for; "" while the model is being resolved
    )
    serving_revision: (
        str  # what answers, unless a route sends a request elsewhere, after this plan; "" if none
    )
    wanted_revision: str = ""  # what is to serve: another than the target if that was rolled back
    wish: Wish | None = None  # what a rollout is asked for; None for a server that is deleted
    sizing: Sizing = NO_SIZING
    scaling_message: str = ""  # what is under way with who writes the number of pods
    scaling_question: ScalingQuestion | None = None  # whom to ask what scaling is decided by
    # Of the revisions that serve or shall, and of those that live for experiments only.
    replicas: Mapping[str, int] = MappingProxyType({})
    tried: Mapping[str, int] = MappingProxyType({})
    experiments: tuple[PlannedExperiment, ...] = ()
    route: Route | None = None  # what divides the traffic; None where nothing does
    route_version: str = ""  # what the built-in router's pods shall say; "" without one
    preflight: PreflightSeen = NO_PREFLIGHT  # what the golden set's Job says
    route_problem: str = ""  # why nothing can divide the traffic, in a sentence for the user
    series: SeriesQuestion | None = None  # what Prometheus is to be asked
    checks: Checks = NO_CHECKS  # queries and webhooks to be asked before a decision is made
    questions: Questions = NO_QUESTIONS  # to be asked before a decision is made
    writes: tuple[Write, ...] = ()
    pod_labels: tuple[PodLabel, ...] = ()
    pod_annotations: tuple[PodAnnotation, ...] = ()
    removals: tuple[Removal, ...] = ()
    requeue_after_seconds: float | None = None
    progress_wanted: bool = False  # pods are starting: read their progress before the next plan
    unmounted: tuple[str, ...] = ()  # pods that wait for volumes: ask what is wrong with these
    resolution: Resolution = Resolution(state=ResolutionState.RESOLVING)
    image: str = ""  # that serves the target revision; "" while there is none
    conflicts: tuple[ChildKey, ...] = ()  # wanted names that belong to somebody else: not written

    @property
    def is_empty(self) -> bool:
        return not (self.writes or self.pod_labels or self.pod_annotations or self.removals)
