"""`status`: what the operator says about a ModelServer."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from modelserver_operator.apis.experiment_status import (
    MOST_EXPERIMENTS,
    ExperimentStatus,
    ExperimentTraffic,
)
from modelserver_operator.apis.rollout_status import (
    MOST_FAILED_REVISIONS,
    FailedRevision,
    LastCommand,
    RolledBackTo,
    Rollout,
)
from modelserver_operator.apis.scaling_status import ScalingStatus
from modelserver_operator.apis.status_types import (
    Bytes,
    Count,
    Generation,
    Short,
    StatusModel,
    Timestamp,
)
from modelserver_operator.apis.types import LongText, Text, list_map


class ConditionType(StrEnum):
    READY = "Ready"
    SERVING = "Serving"
    PROGRESSING = "Progressing"
    MODEL_RESOLVED = "ModelResolved"
    DEGRADED = "Degraded"
    STALLED = "Stalled"
    EXPERIMENTS_RUNNING = "ExperimentsRunning"
    SCALING = "Scaling"


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(StatusModel):
    type: Short
    """Ready, Serving, Progressing, ModelResolved, Degraded, Stalled, ExperimentsRunning or
    Scaling."""
    status: ConditionStatus
    """True, False or Unknown."""
    observed_generation: Generation = 0
    """The generation of the ModelServer that this is about."""
    last_transition_time: Timestamp
    """When `status` changed last."""
    reason: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    """Why, in one word."""
    message: LongText = ""
    """Why, in a sentence."""


class ArtifactPhase(StrEnum):
    RESOLVING = "Resolving"
    FETCHING = "Fetching"
    LOADING = "Loading"
    READY = "Ready"


class Artifact(StatusModel):
    uri: Text = ""
    """The model that the spec asks for."""
    resolved_revision: Short = ""
    """The commit that is served, for `hf://`."""
    phase: ArtifactPhase | None = None
    """How far the pod that is furthest has come: Resolving, Fetching, Loading or Ready."""
    size_bytes: Bytes | None = None
    """Size of the files."""
    downloaded_bytes: Bytes | None = None
    """How much of them is there, in steps of 5 %."""
    download_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    """The same in percent."""
    eta_seconds: Count | None = None
    """How long the rest takes, as measured at the last step."""


class Effective(StatusModel):
    image: Text = ""
    """The image that serves."""
    image_reason: Text = ""
    """Where it comes from."""
    served_name: Short = ""
    """What clients write as `model`."""
    network_policy: Short = ""
    """The network policy in force."""


class Diagnosis(StatusModel):
    code: Short = ""
    """What is wrong, in one word; docs/diagnosis.md explains each."""
    message: LongText = ""
    """What is wrong, in a sentence."""
    hint: LongText = ""
    """What to do about it."""


class ModelServerStatus(StatusModel):
    observed_generation: Generation = 0
    """The generation that this status is about."""
    replicas: Count = 0
    """Pods that exist."""
    ready_replicas: Count = 0
    """Pods of the serving revision that are ready."""
    updated_replicas: Count = 0
    """Pods of the revision that the spec asks for."""
    selector: Text = ""
    """Label selector of the pods, for the scale subresource."""
    url: Text = ""
    """Where clients in the cluster send requests; `/v1` is the base of OpenAI's routes."""
    conditions: Annotated[
        tuple[Condition, ...], Field(max_length=16, json_schema_extra=list_map("type"))
    ] = ()
    """Ready, Serving, Progressing, ModelResolved; Degraded and Stalled when so; ExperimentsRunning
    where there are any, Scaling where there is `spec.autoscaling`."""
    serving_revision: Short = ""
    """The revision that the Service leads to."""
    serving_since: Timestamp | None = None
    """Since when."""
    target_revision: Short = ""
    """The revision that the spec asks for."""
    rollout: Rollout | None = None
    """The change of revision that is going on, or how the last one that was examined ended."""
    failed_revisions: Annotated[
        tuple[FailedRevision, ...],
        Field(max_length=MOST_FAILED_REVISIONS, json_schema_extra=list_map("revision")),
    ] = ()
    """Revisions that were rolled back; they are not tried again by themselves."""
    last_command: LastCommand | None = None
    """What became of the last command."""
    rolled_back_to: RolledBackTo | None = None
    """What is wanted instead of the spec, by command."""
    experiments: Annotated[
        tuple[ExperimentStatus, ...],
        Field(max_length=MOST_EXPERIMENTS, json_schema_extra=list_map("name")),
    ] = ()
    """What became of `spec.traffic.experiments`, each beside the stable revision."""
    experiment_traffic: ExperimentTraffic | None = None
    """How their requests are led to them, and from where the next ones are counted."""
    scaling: ScalingStatus | None = None
    """How many pods are wanted by `spec.autoscaling`, and whether the server sleeps."""
    artifact: Artifact | None = None
    """The model's files."""
    effective: Effective | None = None
    """What the operator chose where the spec left it open."""
    diagnosis: Diagnosis | None = None
    """What is wrong, if anything."""

    def condition(self, kind: ConditionType) -> Condition | None:
        return next((one for one in self.conditions if one.type == kind), None)
