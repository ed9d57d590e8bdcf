"""What every type of `status` is made of."""

from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from modelserver_operator.apis.types import ApiModel

Timestamp = Annotated[
    str, StringConstraints(max_length=32), Field(json_schema_extra={"format": "date-time"})
]
Short = Annotated[str, StringConstraints(max_length=253)]
Sentence = Annotated[str, StringConstraints(max_length=400)]
Count = Annotated[int, Field(ge=0)]
Generation = Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})]
Bytes = Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})]


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
