"""Who asks: a key with what it may do, or somebody without a key where none is needed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase

from modelserver_runtime.access.secret import Digest
from modelserver_runtime.engine.request import Priority


class Scope(StrEnum):
    """What a key is for. None includes another: a key that watches cannot ask models."""

    INFERENCE = "inference"
    MODELS = "models"
    ADMIN = "admin"
    METRICS = "metrics"


class Source(StrEnum):
    """Where a key's record is; only generated keys can be revoked over HTTP.

    A token has none: it says itself what it allows.
    """

    SECRET = "secret"  # noqa: S105  a place, not a secret
    GENERATED = "generated"
    TOKEN = "token"  # noqa: S105  as above


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLimits:
    """None: the server's own limit for keys."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key's record. `models` are shell patterns of names; none of them means every model.

    `namespaces` are those whose models may be asked, at the gateway of a cluster; none: all.
    `prefix` is the beginning of the key, empty where only the digest is known.
    """

    id: str
    name: str
    digest: Digest = field(repr=False)
    prefix: str = ""
    tenant: str = ""
    scopes: frozenset[Scope] = frozenset({Scope.INFERENCE})
    models: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    expires: datetime | None = None
    highest_priority: Priority = Priority.HIGH
    limits: KeyLimits = KeyLimits()
    created: datetime | None = None
    source: Source = Source.SECRET

    def has_expired(self, now: float) -> bool:
        """`now` is a Unix time in seconds."""
        return self.expires is not None and self.expires.timestamp() <= now

    def may_enter(self, namespace: str) -> bool:
        """A server that does not know its own, "", is in none that was named."""
        return not self.namespaces or namespace in self.namespaces

    def may_use(self, names: Sequence[str], namespace: str = "") -> bool:
        """Whether one of a model's names is allowed, and where the model is."""
        if not self.may_enter(namespace):
            return False
        patterns = self.models
        return not patterns or any(fnmatchcase(name, one) for name in names for one in patterns)


def spoken(key: ApiKey) -> str:
    """How an error calls a key, to its owner."""
    return f"{key.name!r} ({key.prefix}...)" if key.prefix else repr(key.name)
