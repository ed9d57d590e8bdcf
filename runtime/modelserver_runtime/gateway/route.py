"""The route document: what the operator tells the router; checked once, then only read."""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.alias_generators import to_camel

from modelserver_runtime.errors import InvalidRoute

WHOLE = 100
_HTTP_PORT = 80
# More problems than this in one sentence help nobody.
_MOST_PROBLEMS = 3

Percent = Annotated[int, Field(ge=0, le=WHOLE)]
Comparison = Literal["Auto", "Text", "Label", "Embedding"]


class _Part(BaseModel):
    """Keys that a newer operator writes are ignored: an older router must still take its route."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore"
    )


class Target(_Part):
    url: str

    @field_validator("url")
    @classmethod
    def _require_http(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError(f"must be http://HOST or http://HOST:PORT, and is {url!r}")
        return url

    @cached_property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or _HTTP_PORT


class ValueMatch(_Part):
    name: Annotated[str, Field(min_length=1)]
    value: str


class Experiment(_Part):
    """Has exactly one of `header`, `cookie` and `user_key_percent`."""

    name: str
    revision: str
    header: ValueMatch | None = None
    cookie: ValueMatch | None = None
    user_key_percent: Annotated[int, Field(ge=1, le=WHOLE)] | None = None

    @model_validator(mode="after")
    def _require_one(self) -> Self:
        _require_one_of(
            f"the experiment {self.name}",
            header=self.header is not None,
            cookie=self.cookie is not None,
            userKeyPercent=self.user_key_percent is not None,
        )
        return self


class Sticky(_Part):
    """Has exactly one of `cookie`, `header` and `user_key`; `seconds` are the cookie's."""

    cookie: str | None = None
    header: str | None = None
    user_key: bool = False
    seconds: Annotated[int, Field(ge=1)] = 3600

    @model_validator(mode="after")
    def _require_one(self) -> Self:
        _require_one_of(
            "sticky",
            cookie=self.cookie is not None,
            header=self.header is not None,
            userKey=self.user_key,
        )
        return self


class Mirror(_Part):
    """`baseline_percent` of the copies are asked of the stable revision too."""

    revision: str
    percent: Percent
    baseline_percent: Percent = 0
    compare: Comparison = "Auto"
    min_cosine_percent: Percent = 98


class Hold(_Part):
    """`release_concurrency`: so many of the requests that waited are answered at the same time."""

    max_requests: Annotated[int, Field(ge=0)] = 200
    max_bytes: Annotated[int, Field(ge=0)] = 64 << 20
    max_seconds: Annotated[float, Field(gt=0)] = 180
    release_concurrency: Annotated[int, Field(ge=1)] = 32


class Route(_Part):
    """`timeout_seconds` bounds the wait for an answer's head, and the silence within it."""

    version: str
    server: str
    stable: str
    revisions: dict[str, Target]
    weights: dict[str, Percent]
    timeout_seconds: Annotated[float, Field(gt=0)] = 120
    experiments: tuple[Experiment, ...] = ()
    sticky: Sticky | None = None
    mirror: Mirror | None = None
    hold: Hold | None = None

    @model_validator(mode="after")
    def _require_whole(self) -> Self:
        total = sum(self.weights.values())
        if total != WHOLE:
            raise ValueError(f"weights must sum to {WHOLE}, and sum to {total}")
        return self

    @model_validator(mode="after")
    def _require_known_revisions(self) -> Self:
        named = {self.stable, *self.weights, *(one.revision for one in self.experiments)}
        if self.mirror is not None:
            named.add(self.mirror.revision)
        unknown = sorted(named - set(self.revisions))
        if unknown:
            raise ValueError(f"{', '.join(unknown)} must be one of the keys of revisions")
        return self

    @property
    def shares(self) -> dict[str, int]:
        """The weights of the revisions that get anything."""
        return {revision: weight for revision, weight in self.weights.items() if weight}


def _require_one_of(what: str, **given: bool) -> None:
    if sum(given.values()) != 1:
        names = ", ".join(given)
        found = ", ".join(name for name, is_given in given.items() if is_given) or "none"
        raise ValueError(f"{what} must have exactly one of {names}, and has {found}")


def read_route(content: bytes) -> Route:
    try:
        return Route.model_validate_json(content)
    except ValidationError as error:
        problems = [_sentence(problem) for problem in error.errors()[:_MOST_PROBLEMS]]
        raise InvalidRoute("; ".join(problems)) from error


def _sentence(problem: Mapping[str, Any]) -> str:
    path = ".".join(str(part) for part in problem["loc"])
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{path}: {message}" if path else message
