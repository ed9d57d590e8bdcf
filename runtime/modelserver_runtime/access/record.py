"""A key's record as people and programs write it: YAML, JSON, or a line with the key alone."""

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from modelserver_runtime.access.principal import ApiKey, KeyLimits, Scope, Source
from modelserver_runtime.access.secret import Digest, digest_of, id_of, is_digest, is_secret, shown
from modelserver_runtime.engine.request import Priority

_HASH = "sha256:"
_MAKE_ONE = "make one with: modelserver-runtime keys generate"

type PriorityName = Literal["low", "normal", "high", "critical"]
type Name = Annotated[
    str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f]+$")
]


class BadRecord(ValueError):
    """The text is a sentence about the record, and never holds a key."""


def _require_time(value: Any) -> Any:
    """YAML reads 2027-01-31 as a day, which begins at a different time for everybody."""
    if isinstance(value, date) and not (isinstance(value, datetime) and value.tzinfo):
        raise ValueError(f"{value} has no time zone; write it like 2027-01-31T00:00:00Z")
    return value


type Time = Annotated[AwareDatetime, BeforeValidator(_require_time)]
type Limit = Annotated[int, Field(ge=1)]


class LimitsDocument(BaseModel):
    """What is left out is the server's own limit for keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests_per_minute: Limit | None = None
    tokens_per_minute: Limit | None = None
    concurrent_requests: Limit | None = None


class Grants(BaseModel):
    """What a key may do; the same in a file and in a request that makes a key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: Annotated[str, Field(max_length=128)] = Field(
        "", description="keys of one tenant share turns and stored answers; empty: the key alone"
    )
    scopes: frozenset[Scope] = Field(frozenset({Scope.INFERENCE}), min_length=1)
    models: tuple[Name, ...] = Field((), description="patterns such as qwen-*; empty: every model")
    namespaces: tuple[Name, ...] = Field(
        (),
        description="at the gateway of a cluster: only models of these; empty: of all. A server "
        "that is asked directly does not know its own, and refuses a key that names some",
    )
    expires: Time | None = None
    highest_priority: PriorityName = "high"
    limits: LimitsDocument = LimitsDocument()


class KeyDocument(Grants):
    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = None
    name: Name | None = None
    key: str | None = Field(None, repr=False)
    hash: str | None = Field(None, repr=False)
    prefix: Annotated[str, Field(max_length=16)] = ""
    created: Time | None = None

    @model_validator(mode="after")
    def _require_one_secret(self) -> "KeyDocument":
        if (self.key is None) == (self.hash is None):
            raise ValueError("give either key (the key itself) or hash (sha256:...)")
        if self.key is not None and not is_secret(self.key):
            raise ValueError(f"key is not hf_ and 43 characters; {_MAKE_ONE}")
        if self.hash is not None and not is_digest(self.hash.removeprefix(_HASH)):
            raise ValueError("hash is not sha256: and 64 hexadecimal digits; see keys hash")
        return self


def parse_record(text: str, *, name: str, source: Source = Source.SECRET) -> ApiKey:
    """`name` is the key's unless the record has one; raises BadRecord."""
    content = text.strip()
    if content.startswith(("hf_", _HASH)) and "\n" not in content:
        field = "hash" if content.startswith(_HASH) else "key"
        return key_of({field: content}, name=name, source=source)
    try:
        document = yaml.safe_load(content)
    except yaml.YAMLError as error:
        # The error's own text shows the line, which may hold the key.
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        raise BadRecord(f"it is neither YAML nor JSON (line {line})") from None
    if not isinstance(document, dict):
        raise BadRecord(f"it holds no record and no key; {_MAKE_ONE}")
    return key_of(document, name=name, source=source)


def key_of(content: dict[str, Any], *, name: str, source: Source) -> ApiKey:
    try:
        document = KeyDocument.model_validate(content)
    except ValidationError as error:
        raise BadRecord("; ".join(_sentence(one) for one in error.errors())) from None
    digest = _digest(document)
    return ApiKey(
        id=document.id or id_of(digest),
        name=document.name or name,
        digest=digest,
        prefix=shown(document.key) if document.key else document.prefix,
        tenant=document.tenant,
        scopes=document.scopes,
        models=document.models,
        namespaces=document.namespaces,
        expires=document.expires,
        highest_priority=Priority[document.highest_priority.upper()],
        limits=KeyLimits(**document.limits.model_dump()),
        created=document.created,
        source=source,
    )


def document_of(key: ApiKey) -> dict[str, Any]:
    """The record as JSON, with the digest and without what says nothing."""
    limits = key.limits
    content = {
        "id": key.id,
        "name": key.name,
        "hash": _HASH + key.digest,
        "prefix": key.prefix,
        "tenant": key.tenant,
        "scopes": sorted(scope.value for scope in key.scopes),
        "models": list(key.models),
        "namespaces": list(key.namespaces),
        "expires": key.expires and iso(key.expires),
        "highest_priority": key.highest_priority.name.lower(),
        "limits": {
            name: value
            for name in LimitsDocument.model_fields
            if (value := getattr(limits, name)) is not None
        },
        "created": key.created and iso(key.created),
    }
    return {name: value for name, value in content.items() if value}


def iso(time: datetime) -> str:
    """To the second, in UTC."""
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _digest(document: KeyDocument) -> Digest:
    if document.key is not None:
        return digest_of(document.key)
    return Digest((document.hash or "").removeprefix(_HASH))


def _sentence(problem: Any) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ")
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{path} is no field of a key; there are {', '.join(KeyDocument.model_fields)}"
    return f"{path}: {message}" if path else message
