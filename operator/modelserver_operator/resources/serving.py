"""The server's settings as variables of its container: each is a setting of the runtime.

A part of the spec that is absent sets nothing, so that pods which were made before there was such a
part stay as they are.
"""

import json
from collections.abc import Iterator
from typing import Any

from modelserver_operator.apis.access import Access, RateLimit
from modelserver_operator.apis.model import ExtraModel
from modelserver_operator.apis.requests import (
    Batching,
    CircuitBreaker,
    Queue,
    Redis,
    ResponseCache,
)
from modelserver_operator.resources.revision import ServedSpec
from modelserver_operator.resources.volumes import KEYS_DIRECTORY, directory_of

type Environment = list[dict[str, Any]]


def variable(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "value": value}


def request_environment(server: str, namespace: str, served: ServedSpec) -> Environment:
    """What stands between the socket and the models, and which models there are besides."""
    runtime = served.runtime
    parts = {
        **_batching(runtime.batching),
        **_queue(runtime.queue),
        **_response_cache(runtime.response_cache),
        **_circuit_breaker(runtime.circuit_breaker),
        **_access(served.access),
        **_extra_models(served.extra_models),
    }
    variables = [variable(name, str(value)) for name, value in parts.items()]
    return [*variables, *_redis(runtime.redis, server, namespace)]


def _batching(batching: Batching | None) -> dict[str, int]:
    if batching is None:
        return {}
    return {
        "MODELSERVER_MAX_BATCH_SIZE": batching.max_batch_size,
        "MODELSERVER_MAX_RUNNING_SEQUENCES": batching.max_batch_size,
        "MODELSERVER_MAX_BATCH_TOKENS": batching.max_batch_tokens,
        "MODELSERVER_BATCH_MAX_WAIT_MILLISECONDS": batching.max_wait_milliseconds,
        "MODELSERVER_SPECULATIVE_TOKENS": batching.speculative_tokens,
    }


def _queue(queue: Queue | None) -> dict[str, int | str]:
    if queue is None:
        return {}
    return {
        "MODELSERVER_MAX_WAITING": queue.max_size,
        "MODELSERVER_QUEUE_TIMEOUT_SECONDS": queue.timeout_seconds,
        "MODELSERVER_QUEUE_SCOPE": str(queue.scope),
    }


def _response_cache(cache: ResponseCache | None) -> dict[str, int]:
    if cache is None:
        return {}
    return {
        "MODELSERVER_CACHE_MAX_ENTRIES": cache.max_entries if cache.enabled else 0,
        "MODELSERVER_CACHE_TTL_SECONDS": cache.ttl_seconds,
    }


def _circuit_breaker(breaker: CircuitBreaker | None) -> dict[str, int]:
    if breaker is None:
        return {}
    return {
        "MODELSERVER_BREAKER_FAILURES": breaker.failure_threshold,
        "MODELSERVER_BREAKER_OPEN_SECONDS": breaker.open_seconds,
    }


def _access(access: Access | None) -> dict[str, int | str]:
    if access is None:
        return {}
    has_keys = access.api_keys is not None
    keys = {"MODELSERVER_ACCESS_KEYS_DIRECTORY": KEYS_DIRECTORY} if has_keys else {}
    return {**keys, **_rate_limit(access.rate_limit, whose="KEY" if has_keys else "ADDRESS")}


def _rate_limit(limit: RateLimit | None, *, whose: str) -> dict[str, int]:
    if limit is None:
        return {}
    return {
        f"MODELSERVER_{whose}_REQUESTS_PER_MINUTE": limit.requests_per_minute,
        f"MODELSERVER_{whose}_TOKENS_PER_MINUTE": limit.tokens_per_minute,
    }


def _extra_models(models: tuple[ExtraModel, ...]) -> dict[str, str]:
    return {"MODELSERVER_MODELS": json.dumps(list(map(_described, models)))} if models else {}


def _described(model: ExtraModel) -> dict[str, Any]:
    """As the runtime's setting `models` takes it."""
    return {
        "name": model.name,
        "aliases": model.aliases,
        "uri": model.uri,
        "revision": model.revision,
        "directory": directory_of(model),
        "task": str(model.task),
        "dtype": str(model.dtype),
    }


def _redis(redis: Redis | None, server: str, namespace: str) -> Iterator[dict[str, Any]]:
    """With a prefix of the server's own: another one's keys and counts are none of its business."""
    if redis is None:
        return
    if redis.secret_ref is None:
        yield variable("MODELSERVER_REDIS_URL", redis.url)
    else:
        source = {"name": redis.secret_ref.name, "key": redis.secret_ref.key}
        yield {"name": "MODELSERVER_REDIS_URL", "valueFrom": {"secretKeyRef": source}}
    yield variable("MODELSERVER_REDIS_PREFIX", f"modelserver:{namespace}:{server}:")
