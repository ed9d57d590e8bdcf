"""The golden set: one case on a line, what is asked and what is expected of the answer."""

import math
import re
from collections.abc import Iterator
from typing import Annotated, Any, Self

import jsonschema_rs
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
)
from pydantic.alias_generators import to_camel

from modelserver_runtime.errors import InvalidConfiguration

# What the operator shows of a case that failed begins with its name, and must stay short.
_LONGEST_NAME = 80
# All values of a ConfigMap together; a file is held to the same, so that it will fit.
MOST_BYTES = 1024 * 1024


class _Strict(BaseModel):
    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True
    )


def _can_point(vector: list[float]) -> list[float]:
    if not any(vector) or not all(map(math.isfinite, vector)):
        raise ValueError("of must have finite numbers, and one that is not 0")
    return vector


class Cosine(_Strict):
    of: Annotated[list[float], Field(min_length=1), AfterValidator(_can_point)]
    min: Annotated[float, Field(ge=-1, le=1)] = 0.98


class Expectation(_Strict):
    """Everything that is given must hold. Without anything, an answer with status 200 passes."""

    exact: str | None = None
    contains: Annotated[str, StringConstraints(min_length=1)] | None = None
    regex: str | None = None
    json_schema: dict[str, Any] | None = None
    label: str | None = None
    cosine: Cosine | None = None
    max_milliseconds: Annotated[int, Field(ge=1)] | None = None
    status: Annotated[int, Field(ge=100, le=599)] = 200

    @field_validator("regex")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.PatternError as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        return pattern

    @field_validator("json_schema")
    @classmethod
    def _is_a_schema(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        try:
            jsonschema_rs.validator_for({} if schema is None else schema, offline=True)
        except jsonschema_rs.ValidationError as error:
            raise ValueError(f"this is no JSON schema: {error.message}") from error
        return schema


class Case(_Strict):
    name: Annotated[str, StringConstraints(min_length=1, max_length=_LONGEST_NAME)]
    path: Annotated[str, StringConstraints(pattern=r"^/\S*$")] = "/v1/chat/completions"
    request: dict[str, Any]
    expect: Expectation = Expectation()

    @field_validator("request")
    @classmethod
    def _is_not_streamed(cls, request: dict[str, Any]) -> dict[str, Any]:
        if request.get("stream"):
            raise ValueError("stream must not be true, because answers are judged as a whole")
        return request


class GoldenSet(_Strict):
    cases: tuple[Case, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Empty lines and lines that begin with # are for people."""
        if len(text.encode()) > MOST_BYTES:
            raise InvalidConfiguration(
                "The cases have more than 1 MiB, which no ConfigMap holds; leave some out"
            )
        cases = tuple(_cases(text))
        if not cases:
            raise InvalidConfiguration(
                "There is no case; write at least one JSON object on a line",
                hint='For example {"name": "hello", "request": {"messages": [...]}, "expect": {}}',
            )
        return cls(cases=cases)


def _cases(text: str) -> Iterator[Case]:
    lines: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        case = _case(number, line)
        if first := lines.get(case.name):
            raise InvalidConfiguration(
                f"Line {number}: the name {case.name!r} is that of line {first} too; "
                "give every case a name of its own"
            )
        lines[case.name] = number
        yield case


def _case(number: int, line: str) -> Case:
    try:
        return Case.model_validate_json(line)
    except ValidationError as failure:
        found = failure.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in found["loc"])
        sentence = found["msg"].removeprefix("Value error, ")
        where = f"Line {number}, {place}" if place else f"Line {number}"
        raise InvalidConfiguration(f"{where}: {sentence}") from failure
