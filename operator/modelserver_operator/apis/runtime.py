"""`spec.engine`, `spec.runtime` and `spec.resources`: what serves the model."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from modelserver_operator.apis.model import DataType
from modelserver_operator.apis.requests import (
    Batching,
    CircuitBreaker,
    Queue,
    Redis,
    ResponseCache,
)
from modelserver_operator.apis.types import (
    LIST_ATOMIC,
    ApiModel,
    DataKey,
    Image,
    LongText,
    ObjectName,
    Quantity,
    Rule,
    list_map,
    unique,
)

_ENV_NAME = r"^[A-Za-z_][-A-Za-z0-9_.]*$"
OWN_ENV_PREFIX = "MODELSERVER_"


class Engine(StrEnum):
    TRANSFORMERS = "Transformers"
    CUSTOM = "Custom"


class KeyReference(ApiModel):
    name: ObjectName
    """Name of the object in the ModelServer's namespace."""
    key: DataKey
    """Key in its data."""


class EnvironmentSource(ApiModel):
    secret_key_ref: KeyReference | None = None
    """Take the value from a key of a Secret."""
    config_map_key_ref: KeyReference | None = None
    """Take the value from a key of a ConfigMap."""

    rules = (
        Rule(
            cel="has(self.secretKeyRef) != has(self.configMapKeyRef)",
            holds=lambda source: (
                (source.secret_key_ref is None) != (source.config_map_key_ref is None)
            ),
            message="valueFrom must have exactly one of secretKeyRef and configMapKeyRef",
        ),
    )


class EnvironmentVariable(ApiModel):
    name: Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=_ENV_NAME)]
    """Name of the variable. Names that begin with MODELSERVER_ are the operator's."""
    value: LongText | None = None
    """The value as text."""
    value_from: EnvironmentSource | None = None
    """Where the value comes from instead."""

    rules = (
        Rule(
            cel="has(self.value) != has(self.valueFrom)",
            holds=lambda variable: (variable.value is None) != (variable.value_from is None),
            message="an environment variable must have exactly one of value and valueFrom",
        ),
        Rule(
            cel=f"!self.name.startsWith('{OWN_ENV_PREFIX}')",
            holds=lambda variable: not variable.name.startswith(OWN_ENV_PREFIX),
            message=(
                "names that begin with MODELSERVER_ are set by the operator;"
                " use the field of spec that means the same, or another name"
            ),
            field_path=".name",
        ),
    )


class Runtime(ApiModel):
    image: Image = ""
    """Image that serves the model; empty means the operator's default, which is then pinned for
    the revision: upgrading the operator restarts nothing. Required for engine Custom."""
    dtype: DataType = DataType.AUTO
    """Type in which weights are kept; `Auto` takes the model's own. `Int8`, half the memory of
    `BFloat16` at some exactness, is for text that the runtime's native engine generates; a pod
    whose model or processor that engine does not serve says so and does not start."""
    max_model_length: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    """Longest prompt and answer together, in tokens; 0 takes the model's own limit."""
    request_timeout_seconds: Annotated[int, Field(ge=1, le=86_400)] = 120
    """Longest time that one request may take, in seconds."""
    drain_seconds: Annotated[int, Field(ge=0, le=3_600)] = 60
    """How long a pod that is asked to stop may finish the requests it has, in seconds."""
    batching: Batching | None = None
    """What is computed together. Without it, the defaults of the runtime hold."""
    queue: Queue | None = None
    """How requests wait for their turn. Without it, the defaults of the runtime hold."""
    response_cache: ResponseCache | None = None
    """Which answers are kept to be given again. Without it, the defaults of the runtime hold: it
    is enabled."""
    circuit_breaker: CircuitBreaker | None = None
    """When a failing model is left alone. Without it, the defaults of the runtime hold."""
    redis: Redis | None = None
    """A Redis in which the pods share answers, limits and keys. Without it, or while it does not
    answer, each pod has its own. Under network policy Restricted, name its pods in
    `network.egressTo`."""
    env: Annotated[
        tuple[EnvironmentVariable, ...],
        Field(max_length=64, json_schema_extra=list_map("name")),
        unique("name"),
    ] = ()
    """More environment variables for the server's container."""
    args: Annotated[
        tuple[Annotated[str, StringConstraints(max_length=1024)], ...],
        Field(max_length=64, json_schema_extra=LIST_ATOMIC),
    ] = ()
    """More arguments for the server's command."""


_Quantities = Annotated[dict[str, Quantity], Field(max_length=16)]
_COMPUTE = ("cpu", "memory", "ephemeral-storage")


def _is_resource(name: str) -> bool:
    return name in _COMPUTE or name.startswith("hugepages-") or "/" in name


def _names_rule(field: str) -> Rule:
    return Rule(
        cel=(
            f"!has(self.{field}) || self.{field}.all(name, name in {list(_COMPUTE)}"
            " || name.startsWith('hugepages-') || name.contains('/'))"
        ),
        holds=lambda resources: all(map(_is_resource, getattr(resources, field))),
        message=(
            f"{field} must name cpu, memory, ephemeral-storage, hugepages-<size>,"
            " or a device such as nvidia.com/gpu"
        ),
        field_path=f".{field}",
    )


class Resources(ApiModel):
    requests: _Quantities = Field(default_factory=dict)
    """What is reserved for each pod, e.g. cpu, memory, nvidia.com/gpu."""
    limits: _Quantities = Field(default_factory=dict)
    """What each pod may use at most."""

    rules = (_names_rule("requests"), _names_rule("limits"))
