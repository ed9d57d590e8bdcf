"""The ModelServer, version v1alpha1: the one source of the CRD, its reference and our parsing."""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from modelserver_operator.apis.access import Access
from modelserver_operator.apis.autoscaling import REPLICAS_OR_AUTOSCALING, Autoscaling
from modelserver_operator.apis.model import (
    ONLY_FOR_TEXT,
    ExtraModel,
    Model,
    have_different_names,
    takes_type,
)
from modelserver_operator.apis.pods import Availability, Network, NetworkPolicyMode, PodTemplate
from modelserver_operator.apis.rollout import RolloutSpec
from modelserver_operator.apis.runtime import Engine, Resources, Runtime
from modelserver_operator.apis.status import ModelServerStatus
from modelserver_operator.apis.traffic import Traffic
from modelserver_operator.apis.types import ApiModel, Rule, list_map, unique
from modelserver_operator.errors import InvalidResource

GROUP = "modelserver.dev"
VERSION = "v1alpha1"
KIND = "ModelServer"
PLURAL = "modelservers"
API_VERSION = f"{GROUP}/{VERSION}"

# Leaves room for "-<revision>-<replica set>-<pod>" and "-resolve-<hash>" below 63.
NAME_MAX_LENGTH = 40
_NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"


# Parts of spec that only our own runtime reads: the field and how CEL asks whether it is used.
_OF_OUR_RUNTIME = {
    "access": "has(self.access)",
    "extraModels": "(has(self.extraModels) && self.extraModels.size() > 0)",
    **{
        f"runtime.{part}": f"has(self.runtime.{part})"
        for part in ("batching", "queue", "responseCache", "circuitBreaker", "redis")
    },
}
_DIFFERENT_EXTRA_NAMES = (
    "!has(self.extraModels) || self.extraModels.all(one, !has(one.aliases)"
    " || one.aliases.all(alias, self.extraModels.all(other, other.name != alias"
    " && (other.name == one.name || !has(other.aliases) || !(alias in other.aliases)))))"
)
_FREE = (
    "{0} != (has(self.spec.model.servedName) && self.spec.model.servedName != ''"
    " ? self.spec.model.servedName : self.metadata.name)"
    " && (!has(self.spec.model.aliases) || !({0} in self.spec.model.aliases))"
)
_EXTRA_NAMES_ARE_FREE = (
    f"!has(self.spec.extraModels) || self.spec.extraModels.all(one, {_FREE.format('one.name')}"
    f" && (!has(one.aliases) || one.aliases.all(alias, {_FREE.format('alias')})))"
)


class ModelServerSpec(ApiModel):
    model: Model
    """The model that is served."""
    extra_models: Annotated[
        tuple[ExtraModel, ...],
        Field(max_length=8, json_schema_extra=list_map("name")),
        unique("name"),
    ] = ()
    """More models in the same pods. Their files are there before the pods serve; each is loaded
    when somebody asks for it, and the one used longest ago gives way when memory is short or more
    than three would be loaded (`--max-loaded-models` in `runtime.args`). What `runtime` says holds
    for all of them."""
    engine: Engine = Engine.TRANSFORMERS
    """What serves it. `Transformers` is the runtime of this project. `Custom` is any image that
    listens on port 8080, answers `GET /health`, and reads the model from `/model`."""
    runtime: Runtime = Runtime()
    """How it is served."""
    access: Access | None = None
    """Who may ask, and how often. Without it, everybody whom the network lets through."""
    resources: Resources = Resources()
    """What each pod needs. Nothing is assumed where nothing is given."""
    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """How many pods serve. `kubectl scale` sets it."""
    autoscaling: Autoscaling | None = None
    """How many pods serve, by what is measured; instead of `replicas`."""
    network: Network = Network()
    """Who may talk to the pods, and to whom they may talk."""
    availability: Availability = Availability()
    """How the pods stay available while nodes come and go."""
    rollout: RolloutSpec | None = None
    """How a new revision takes over. Without it, as soon as all of its pods are ready."""
    traffic: Traffic | None = None
    """How requests are divided while there are two revisions."""
    pod_template: PodTemplate = PodTemplate()
    """The last resort: anything else about the pods, laid over what the operator makes."""
    suspend: bool = False
    """Stop all pods and keep everything else."""

    rules = (
        REPLICAS_OR_AUTOSCALING,
        Rule(
            cel="self.engine != 'Custom' || has(self.runtime.image) && self.runtime.image != ''",
            holds=lambda spec: spec.engine is not Engine.CUSTOM or spec.runtime.image != "",
            message="engine Custom requires runtime.image: the image that serves the model",
            field_path=".runtime.image",
        ),
        Rule(
            cel="self.runtime.dtype != 'Int8' || self.model.task in ['Auto', 'TextGeneration']",
            holds=lambda spec: takes_type(spec.model.task, spec.runtime.dtype),
            message=ONLY_FOR_TEXT,
            field_path=".runtime.dtype",
        ),
        Rule(
            cel=f"self.engine != 'Custom' || !({' || '.join(_OF_OUR_RUNTIME.values())})",
            holds=lambda spec: spec.engine is not Engine.CUSTOM or not spec.needs_our_runtime,
            message=(
                f"{', '.join(_OF_OUR_RUNTIME)} are only for engine Transformers, because an image"
                " of engine Custom knows nothing of them; remove them"
            ),
            field_path=".engine",
        ),
        Rule(
            cel=_DIFFERENT_EXTRA_NAMES,
            holds=lambda spec: have_different_names(spec.extra_models),
            message="names and aliases of extraModels must all differ; rename or remove one",
            field_path=".extraModels",
        ),
        Rule(
            cel=(
                "!has(self.runtime.redis) || self.network.policy != 'Restricted'"
                " || (has(self.network.egressTo) && self.network.egressTo.size() > 0)"
            ),
            holds=lambda spec: spec.may_reach_redis,
            message=(
                "runtime.redis requires network.egressTo under policy Restricted: name there the"
                " pods or addresses of Redis and its port, because the pods reach nothing else"
            ),
            field_path=".network",
        ),
    )

    @property
    def needs_our_runtime(self) -> bool:
        runtime = self.runtime
        parts = (runtime.batching, runtime.queue, runtime.response_cache, runtime.circuit_breaker)
        rest = (runtime.redis, self.access, self.extra_models or None)
        return any(part is not None for part in (*parts, *rest))

    @property
    def may_reach_redis(self) -> bool:
        is_confined = self.network.policy is NetworkPolicyMode.RESTRICTED
        return self.runtime.redis is None or not is_confined or bool(self.network.egress_to)


class ObjectMeta(BaseModel):
    """What we read of the metadata."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    annotations: Mapping[str, str] = Field(default_factory=dict)
    deletionTimestamp: str | None = None  # noqa: N815  as Kubernetes spells it


class ModelServer(ApiModel):
    api_version: Literal["modelserver.dev/v1alpha1"] = "modelserver.dev/v1alpha1"
    kind: Literal["ModelServer"] = "ModelServer"
    metadata: ObjectMeta
    spec: ModelServerSpec
    """What is wanted."""
    status: ModelServerStatus = ModelServerStatus()
    """What is seen. Written by the operator only."""

    rules = (
        Rule(
            cel=f"self.metadata.name.size() <= {NAME_MAX_LENGTH}",
            holds=lambda server: len(server.metadata.name) <= NAME_MAX_LENGTH,
            message=(
                f"the name of a ModelServer must have at most {NAME_MAX_LENGTH} characters,"
                " because the names of its pods are made from it; choose a shorter one"
            ),
        ),
        Rule(
            cel=f"self.metadata.name.matches('{_NAME}')",
            holds=lambda server: re.search(_NAME, server.metadata.name) is not None,
            message=(
                "the name of a ModelServer must begin with a letter and must not contain dots,"
                " because its Service has the same name; for example chat-small"
            ),
        ),
        Rule(
            cel=_EXTRA_NAMES_ARE_FREE,
            holds=lambda server: server.has_one_model_by_name,
            message=(
                "an extra model must not have the name or an alias of spec.model, which is the"
                " ModelServer's name where servedName is empty; rename it"
            ),
            field_path=".spec.extraModels",
        ),
    )

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def namespace(self) -> str:
        return self.metadata.namespace

    @property
    def served_name(self) -> str:
        return self.spec.model.served_name or self.name

    @property
    def has_one_model_by_name(self) -> bool:
        taken = {self.served_name, *self.spec.model.aliases}
        return taken.isdisjoint(name for one in self.spec.extra_models for name in one.names)

    @property
    def is_being_deleted(self) -> bool:
        return self.metadata.deletionTimestamp is not None


def parse_model_server(manifest: dict[str, Any]) -> ModelServer:
    """A stored object as a value; raises InvalidResource when a rule of ours is broken.

    A status that we cannot read (of another version) counts as none: it is made anew.
    """
    known = {key: manifest[key] for key in ("apiVersion", "kind", "metadata", "spec")}
    status = parse_status(manifest)
    try:
        server = ModelServer.model_validate_json(json.dumps(known))
    except ValidationError as failure:
        raise _invalid(failure) from failure
    return server.model_copy(update={"status": status})


def parse_status(manifest: dict[str, Any]) -> ModelServerStatus:
    """The stored status of an object; an empty one where it cannot be read."""
    try:
        return ModelServerStatus.model_validate_json(json.dumps(manifest.get("status") or {}))
    except ValidationError:
        return ModelServerStatus()


def _invalid(failure: ValidationError) -> InvalidResource:
    first = failure.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "metadata"
    return InvalidResource(first["msg"].removeprefix("Value error, "), field=field)
