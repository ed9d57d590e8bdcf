"""Bodies of the routes for API keys."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from modelserver_runtime.access.principal import Scope, Source
from modelserver_runtime.access.record import Grants, LimitsDocument, PriorityName
from modelserver_runtime.rest.schemas.fields import Answer

type Place = Literal["redis", "file", "memory"]


class GenerateKey(Grants):
    """What the new key is called, and what it may do."""

    name: Annotated[
        str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f]+$")
    ]
    expires_in_seconds: Annotated[float, Field(gt=0, le=10 * 365 * 86400)] | None = None


class RevokeKey(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(min_length=1, max_length=64)]


class KeyDescription(Answer):
    """A key without its secret; `prefix` is how the secret begins, where that is known."""

    id: str
    name: str
    prefix: str
    tenant: str
    scopes: list[Scope]
    models: list[str]
    namespaces: list[str]
    expires: AwareDatetime | None
    has_expired: bool
    highest_priority: PriorityName
    limits: LimitsDocument
    created: AwareDatetime | None
    source: Source


class GeneratedKey(KeyDescription):
    """`key` is shown this once. With `kept_in` memory it ends with this process."""

    key: str
    kept_in: Place
    note: str


class KeyList(Answer):
    """`problems` has a sentence for each file or store that cannot be used as it is."""

    keys: list[KeyDescription]
    kept_in: Place
    problems: dict[str, str]


class RevokedKey(Answer):
    id: str
    revoked: Literal[True] = True


class KeyUsage(Answer):
    id: str
    name: str
    requests: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    last_used: AwareDatetime | None


class UsageReport(Answer):
    """`counted_in` redis: by all replicas; memory: by this one since its start."""

    keys: list[KeyUsage]
    counted_in: Literal["redis", "memory"]
    limits_counted_in: Literal["redis", "memory"]
