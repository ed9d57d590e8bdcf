"""Bodies of /admin/cache."""

from typing import Literal

from modelserver_runtime.rest.schemas.fields import Answer, RequestBody


class InvalidateRequest(RequestBody):
    """Without `model`: all of them."""

    model: str | None = None


class InvalidatedModel(Answer):
    """`entries` were in this process's memory; `is_shared` is false until replicas are told."""

    model: str
    entries: int
    is_shared: bool


class InvalidateAnswer(Answer):
    invalidated: list[InvalidatedModel]


class ModelCacheStats(Answer):
    """Counts since the start of this process."""

    model: str
    entries: int
    bytes: int
    in_flight: int
    hits: dict[str, int]
    misses: int
    coalesced: int
    bypassed: int
    evictions: dict[str, int]
    saved_tokens: int
    shared_errors: int


class CacheStats(Answer):
    """`shared` says whether replicas share answers, and whether that works at present."""

    is_enabled: bool
    entries: int
    bytes: int
    max_entries: int
    max_bytes: int
    ttl_seconds: float
    shared: Literal["off", "reachable", "unreachable"]
    models: list[ModelCacheStats]
