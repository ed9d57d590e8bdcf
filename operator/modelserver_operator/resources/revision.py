"""A revision: what changes the served pods, and what was pinned when it was first seen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import ValidationError
from pydantic.alias_generators import to_snake

from modelserver_operator.apis.access import Access
from modelserver_operator.apis.model import ExtraModel, Model
from modelserver_operator.apis.pods import PodTemplate, Spread
from modelserver_operator.apis.quantity import canonical_quantities
from modelserver_operator.apis.runtime import Engine, Resources, Runtime
from modelserver_operator.apis.types import ApiModel
from modelserver_operator.apis.v1alpha1 import ModelServerSpec
from modelserver_operator.resources.digest import canonical_json, digest

# Of what is hashed and of the pods made from it. Whoever changes the pods of existing revisions
# raises it and keeps making the old ones as before: an upgrade of the operator restarts nothing.
FORMAT = 1

REVISION_LENGTH = 8
SPEC_HASH_LENGTH = 16


class ServedSpec(ApiModel):
    """The part of the spec that changes the served pods."""

    model: Model
    engine: Engine = Engine.TRANSFORMERS
    runtime: Runtime = Runtime()
    resources: Resources = Resources()
    pod_template: PodTemplate = PodTemplate()
    spread: Spread = Spread.ZONE
    priority_class_name: str = ""
    access: Access | None = None
    extra_models: tuple[ExtraModel, ...] = ()

    @classmethod
    def of(cls, spec: ModelServerSpec) -> Self:
        return cls(
            model=spec.model,
            engine=spec.engine,
            runtime=spec.runtime,
            resources=spec.resources,
            pod_template=spec.pod_template,
            spread=spec.availability.spread,
            priority_class_name=spec.availability.priority_class_name,
            access=spec.access,
            extra_models=spec.extra_models,
        )

    def canonical(self) -> dict[str, Any]:
        """Without defaults, so that a field which a later version adds changes no hash."""
        dumped = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return {key: canonical_quantities(value) for key, value in dumped.items()}

    @property
    def is_fetched(self) -> bool:
        """Whether any of its models comes over the network."""
        return any(model.is_from_hub for model in (self.model, *self.extra_models))

    @property
    def hash(self) -> str:
        return digest(self.canonical(), length=SPEC_HASH_LENGTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """What the spec leaves open and the operator fixed; empty where it is not used."""

    runtime_image: str = ""  # fetches and serves, where the spec names no other
    hub_endpoint: str = ""
    commit: str = ""

    def stored(self) -> dict[str, str]:
        return {
            "runtimeImage": self.runtime_image,
            "hubEndpoint": self.hub_endpoint,
            "commit": self.commit,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """`data` is what the ControllerRevision stores, and what `name` is the hash of."""

    served: ServedSpec
    pins: Pins
    data: dict[str, Any] = field(init=False, compare=False, repr=False)
    name: str = field(init=False)

    def __post_init__(self) -> None:
        data = {"format": FORMAT, "spec": self.served.canonical(), "pins": self.pins.stored()}
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "name", digest(data, length=REVISION_LENGTH))

    @property
    def server_image(self) -> str:
        return self.served.runtime.image or self.pins.runtime_image

    @property
    def fetch_image(self) -> str:
        """The server's own, unless that is not our runtime."""
        if self.served.engine is Engine.CUSTOM:
            return self.pins.runtime_image
        return self.server_image

    @property
    def is_fetched(self) -> bool:
        return self.served.is_fetched

    @property
    def commit(self) -> str:
        return self.pins.commit


def needs_runtime_image(served: ServedSpec) -> bool:
    """Whether any container of the pods runs the operator's default image."""
    if served.engine is Engine.CUSTOM:
        return served.model.is_from_hub
    return not served.runtime.image


def _pins(data: Mapping[str, str]) -> Pins:
    return Pins(**{to_snake(name): pin for name, pin in data.items()})


def revision_from_data(data: Mapping[str, Any]) -> Revision | None:
    """The revision that a ControllerRevision keeps; None if it was written by something else."""
    try:
        served = ServedSpec.model_validate_json(canonical_json(data["spec"]))
        revision = Revision(served=served, pins=_pins(data["pins"]))
    except (KeyError, TypeError, ValidationError):
        return None
    return revision if revision.data == data else None
