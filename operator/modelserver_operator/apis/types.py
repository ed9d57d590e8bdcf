"""What every type of the API is made of: the base model, rules for both sides, bounded text."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StrictInt,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule across fields, once for the API server (CEL) and once for us; they must agree.

    `message` says what to write instead. `field_path` points at the field at fault, as in CEL
    (`.revision`), for the API server's error.
    """

    cel: str
    holds: Callable[[Any], bool]
    message: str
    field_path: str = ""

    @property
    def validation(self) -> dict[str, str]:
        """As an item of x-kubernetes-validations."""
        path = {"fieldPath": self.field_path} if self.field_path else {}
        return {"rule": self.cel, "message": self.message, **path}


class ApiModel(BaseModel):
    """A part of the resource: immutable, camelCase outside, no unknown fields.

    Strict, because the API server takes no "5" for 5 either. What follows a field as a string
    is its description: in `kubectl explain`, in docs/api.md.
    """

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        use_attribute_docstrings=True,
    )
    rules: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Rules travel in the schema as the API server reads them."""
        reference = handler(core_schema)
        if cls.rules:
            schema = handler.resolve_ref_schema(reference)
            schema["x-kubernetes-validations"] = [rule.validation for rule in cls.rules]
        return reference

    @model_validator(mode="after")
    def keeps_its_rules(self) -> Self:
        for rule in self.rules:
            if not rule.holds(self):
                raise ValueError(rule.message)
        return self


def list_map(*keys: str) -> JsonDict:
    """For `json_schema_extra`: a list whose items these keys tell apart, for server-side apply."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def unique(*path: str) -> AfterValidator:
    """The items of a set, or of a list-map by its key, are all different."""
    read = attrgetter(*path) if path else str

    def check(items: tuple[Any, ...]) -> tuple[Any, ...]:
        keys = [read(item) for item in items]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise ValueError(f"{twice} is there twice; keep one of them")
        return items

    return AfterValidator(check)


LIST_SET: JsonDict = {"x-kubernetes-list-type": "set"}
LIST_ATOMIC: JsonDict = {"x-kubernetes-list-type": "atomic"}
MAP_ATOMIC: JsonDict = {"x-kubernetes-map-type": "atomic"}

# Lengths are those of Kubernetes: DNS label 63, DNS subdomain 253, Secret key 253.
DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
LABEL_KEY = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"

ObjectName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN)]
OptionalName = Annotated[str, StringConstraints(max_length=253, pattern=rf"^$|{DNS_SUBDOMAIN}")]
DataKey = Annotated[
    str, StringConstraints(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")
]
LabelValue = Annotated[str, StringConstraints(max_length=63, pattern=LABEL_VALUE)]
Image = Annotated[str, StringConstraints(max_length=512, pattern=r"^\S*$")]
Text = Annotated[str, StringConstraints(max_length=1024)]
LongText = Annotated[str, StringConstraints(max_length=4096)]

# Without forms that the API server keeps as they are written (+1, 2., 1E3): they compare badly.
QUANTITY = (
    r"^([0-9]{1,15}(\.[0-9]{1,9})?|\.[0-9]{1,9})"
    r"([KMGTPE]i|[numkMGTPE]|e-?[0-9]{1,2})?$"
)
Quantity = Annotated[
    Annotated[StrictInt, Field(ge=0)]
    | Annotated[str, StringConstraints(max_length=32, pattern=QUANTITY)],
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "minimum": 0,
            "pattern": QUANTITY,
            "maxLength": 32,
        }
    ),
]
