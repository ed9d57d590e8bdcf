"""`status`: what the operator says about a ModelServer."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from modelserver_operator.apis.types import ApiModel, LongText, Text, list_map

Timestamp = Annotated[
    str, StringConstraints(max_length=32), Field(json_schema_extra={"format": "date-time"})
]
Short = Annotated[str, StringConstraints(max_length=253)]
Count = Annotated[int, Field(ge=0)]
Generation = Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})]
Bytes = Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})]


class ConditionType(StrEnum):
    READY = "Ready"
    SERVING = "Serving"
    PROGRESSING = "Progressing"
    MODEL_RESOLVED = "ModelResolved"
    DEGRADED = "Degraded"


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class StatusModel(ApiModel):
    """Status is our own writing: a field that is not known any more is no reason to stop."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        validate_by_name=True,
        use_attribute_docstrings=True,
    )


class Condition(StatusModel):
    type: Short
    """Ready, Serving, Progressing, ModelResolved or Degraded."""
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


class RolloutPhase(StrEnum):
    STARTING = "Starting"
    SETTLING = "Settling"


class Rollout(StatusModel):
    from_: Annotated[Short, Field(alias="from")] = ""
    """The revision that serves, or served, before."""
    to: Short = ""
    """The revision that takes over."""
    phase: RolloutPhase
    """`Starting`: the new revision's pods are starting, the old one serves. `Settling`: the new
    one serves; the old one's pods are about to drain."""
    start_time: Timestamp
    """When it began."""


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
    """Ready, Serving, Progressing, ModelResolved; Degraded when so."""
    serving_revision: Short = ""
    """The revision that the Service leads to."""
    serving_since: Timestamp | None = None
    """Since when."""
    target_revision: Short = ""
    """The revision that the spec asks for."""
    rollout: Rollout | None = None
    """The change of revision that is going on, if any."""
    artifact: Artifact | None = None
    """The model's files."""
    effective: Effective | None = None
    """What the operator chose where the spec left it open."""
    diagnosis: Diagnosis | None = None
    """What is wrong, if anything."""

    def condition(self, kind: ConditionType) -> Condition | None:
        return next((one for one in self.conditions if one.type == kind), None)
