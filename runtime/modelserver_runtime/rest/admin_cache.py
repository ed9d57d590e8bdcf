"""/admin/cache: what the response cache does, and how it is made to forget."""

from typing import Literal

from fastapi import APIRouter

from modelserver_runtime.cache.shelf import Shelf
from modelserver_runtime.rest.context import Context, NeedsJson, ServerContext
from modelserver_runtime.rest.schemas.cache import (
    CacheStats,
    InvalidateAnswer,
    InvalidatedModel,
    InvalidateRequest,
    ModelCacheStats,
)

router = APIRouter(tags=["Admin"], prefix="/admin/cache")


@router.post("/invalidate", dependencies=[NeedsJson])
async def invalidate_cache(body: InvalidateRequest, context: Context) -> InvalidateAnswer:
    """Forgets stored answers, here at once and at the other replicas within two seconds.

    Answers that are being computed go on for those who wait, and are not stored.
    """
    models = list(context.models) if body.model is None else [context.models.find(body.model)]
    invalidated = [await _invalidate(context, model.name) for model in models]
    return InvalidateAnswer(invalidated=invalidated)


@router.get("/stats")
async def describe_cache(context: Context) -> CacheStats:
    cache, settings = context.cache, context.settings
    return CacheStats(
        is_enabled=cache is not None,
        entries=cache.occupancy.entries if cache else 0,
        bytes=cache.occupancy.size_bytes if cache else 0,
        max_entries=settings.cache_max_entries,
        max_bytes=settings.cache_max_bytes,
        ttl_seconds=settings.cache_ttl_seconds,
        shared=_shared(context),
        models=[_stats(shelf) for shelf in cache or ()],
    )


async def _invalidate(context: ServerContext, model: str) -> InvalidatedModel:
    if context.cache is None:
        return InvalidatedModel(model=model, entries=0, is_shared=True)
    outcome = await context.cache.invalidate(model)
    return InvalidatedModel(model=model, entries=outcome.entries, is_shared=outcome.is_shared)


def _shared(context: ServerContext) -> Literal["off", "reachable", "unreachable"]:
    if context.cache is None or context.redis is None:
        return "off"
    return "reachable" if context.redis.is_reachable else "unreachable"


def _stats(shelf: Shelf) -> ModelCacheStats:
    tally = shelf.tally
    return ModelCacheStats(
        model=shelf.name,
        entries=shelf.occupancy.entries,
        bytes=shelf.occupancy.size_bytes,
        in_flight=shelf.in_flight,
        hits={str(level): count for level, count in tally.hits.items()},
        misses=tally.misses,
        coalesced=tally.coalesced,
        bypassed=tally.bypassed,
        evictions={str(reason): count for reason, count in tally.evictions.items()},
        saved_tokens=tally.tokens_saved,
        shared_errors=tally.errors,
    )
