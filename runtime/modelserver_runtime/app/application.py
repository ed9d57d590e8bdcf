"""All routes as one application."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from modelserver_runtime import __version__
from modelserver_runtime.access.opening import open_guard
from modelserver_runtime.app.loader import DiskLoader
from modelserver_runtime.backends.accelerators import cuda_devices
from modelserver_runtime.backends.base import LoadedModel
from modelserver_runtime.backends.machine import usable_threads
from modelserver_runtime.cache.memory import MemoryLimits
from modelserver_runtime.cache.response_cache import CacheRules, ResponseCache
from modelserver_runtime.engine.service import ModelService, shared_turns, start_service
from modelserver_runtime.engine.worker import Clock
from modelserver_runtime.models.identity import identity_of
from modelserver_runtime.models.manager import Loader, ManagerRules, ModelManager
from modelserver_runtime.models.served import Keeping, ServedModel
from modelserver_runtime.observability.aliases import derive
from modelserver_runtime.observability.hardware import HardwareCollector
from modelserver_runtime.observability.tracing import make_tracer
from modelserver_runtime.rest import (
    admin_cache,
    admin_keys,
    admin_queue,
    batches,
    chat,
    completions,
    embeddings,
    files,
    generate,
    health,
    models,
    prediction_jobs,
    rerank,
    responses,
    status,
    tasks,
)
from modelserver_runtime.rest.boundary import Boundary
from modelserver_runtime.rest.caching import Caching
from modelserver_runtime.rest.context import ServerContext
from modelserver_runtime.rest.description import describe_tasks, drop_unused_statuses
from modelserver_runtime.rest.errors import TABLE, install_error_handlers
from modelserver_runtime.rest.fast_lane import FastLane, lanes_of
from modelserver_runtime.rest.inference_v2 import routes as inference_v2
from modelserver_runtime.rest.jobs.stores import create_jobs
from modelserver_runtime.rest.openapi import complete
from modelserver_runtime.rest.protection import DOCUMENT_ASSETS, Protection, public_paths
from modelserver_runtime.rest.schemas.errors import ErrorBody
from modelserver_runtime.settings import Settings
from modelserver_runtime.storage import RedisStore, open_store
from modelserver_runtime.telemetry import Telemetry

_ROUTERS = (
    chat,
    completions,
    embeddings,
    responses,
    rerank,
    files,
    batches,
    models,
    tasks,
    prediction_jobs,
    generate,
    inference_v2,
    health,
    status,
    admin_keys,
    admin_cache,
    admin_queue,
)


# What a page of another origin may read of an answer, beside its body.
_EXPOSED_HEADERS = (
    *("x-request-id", "x-model-revision", "x-cache", "server-timing", "retry-after"),
    *("x-should-retry", "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests"),
    *("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens"),
)


def create_context(
    settings: Settings, *, clock: Clock, wall_clock: Clock, loader: Loader | None = None
) -> ServerContext:
    telemetry = _telemetry(settings, clock)
    redis = open_store(settings, telemetry, clock)
    cache = _cache(settings, clock, wall_clock, redis)
    return ServerContext(
        settings=settings,
        models=_models(settings, telemetry, clock, loader or DiskLoader(), cache),
        telemetry=telemetry,
        clock=clock,
        wall_clock=wall_clock,
        # One thread: tokenizers of transformers must not be called by two at once.
        tokenizing=ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenizer"),
        created=int(wall_clock()),
        jobs=create_jobs(settings, wall_clock),
        guard=open_guard(settings, telemetry, redis, clock=clock, wall_clock=wall_clock),
        redis=redis,
        tracer=make_tracer(settings),
        cache=cache,
    )


def _cache(
    settings: Settings, clock: Clock, wall_clock: Clock, redis: RedisStore | None
) -> ResponseCache | None:
    if not settings.cache_max_entries:
        return None
    limits = MemoryLimits(
        max_entries=settings.cache_max_entries,
        max_bytes=settings.cache_max_bytes,
        ttl_seconds=settings.cache_ttl_seconds,
    )
    rules = CacheRules(limits=limits, is_shared=settings.cache_shared)
    return ResponseCache(rules, clock=clock, wall_clock=wall_clock, store=redis)


def _telemetry(settings: Settings, clock: Clock) -> Telemetry:
    telemetry = Telemetry()
    telemetry.registry.register(
        HardwareCollector(
            processors=usable_threads(), clock=clock, accelerators=lambda: list(cuda_devices())
        )
    )
    telemetry.show_also(lambda metrics: derive(metrics, settings.metrics_aliases))
    return telemetry


def _models(
    settings: Settings,
    telemetry: Telemetry,
    clock: Clock,
    loader: Loader,
    cache: ResponseCache | None,
) -> ModelManager:
    turns = shared_turns(settings, clock)

    def start(model: ServedModel, loaded: LoadedModel) -> ModelService:
        service = start_service(loaded, model.settings, model.telemetry, clock, turns)
        if cache is None:
            return service
        identity = identity_of(model.settings, loaded.description)
        samples = loaded.description.samples
        return service.behind(cache.layer(model.name, identity, model.telemetry, samples=samples))

    return ModelManager(
        list(_known_models(settings, telemetry, clock)),
        rules=ManagerRules(
            max_loaded=settings.max_loaded_models,
            budget_bytes=settings.memory_budget_bytes,
            load_on_request=settings.load_on_request,
            failure_pause_seconds=settings.failed_load_pause_seconds,
            drain_seconds=settings.drain_seconds,
        ),
        loader=loader,
        start=start,
        telemetry=telemetry,
        clock=clock,
    )


def _known_models(settings: Settings, telemetry: Telemetry, clock: Clock) -> Iterator[ServedModel]:
    primary = telemetry.of(settings.metrics_name, settings.revision)
    yield ServedModel(settings, primary, clock, Keeping(is_primary=True))
    for extra in settings.models:
        yield ServedModel(
            settings.of(extra),
            telemetry.of(extra.name, settings.revision),
            clock,
            Keeping(is_pinned=extra.pinned, is_preloaded=extra.preload),
        )


def create_app(context: ServerContext) -> FastAPI:
    app: FastAPI = FastAPIOffline(
        static_url=DOCUMENT_ASSETS,
        title="ModelServer runtime",
        version=__version__,
        description="Serves one Hugging Face model",
        responses={mapped.status: {"model": ErrorBody} for mapped in TABLE.values()},
    )
    app.state.context = context
    for module in _ROUTERS:
        app.include_router(module.router)
    install_error_handlers(app)
    app.openapi = lambda: _description(app)  # type: ignore[method-assign]  # FastAPI's own way
    return app


def _description(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, which it keeps in `openapi_schema`, with the tasks' bodies."""
    if app.openapi_schema is None:
        document = FastAPI.openapi(app)
        describe_tasks(document)
        drop_unused_statuses(document)
        complete(document, public_paths(app.state.context.settings))
    return app.openapi_schema or {}


def guarded(routes: FastAPI) -> ASGIApp:
    """With what every request meets first; in front of FastAPI's own layers, which cost as much."""
    lanes = lanes_of(module.router for module in _ROUTERS)
    return Protection(FastLane(routes, lanes), routes.state.context)


def create_asgi(context: ServerContext) -> ASGIApp:
    """The application inside its boundary: what a server runs."""
    settings = context.settings
    routes = create_app(context)
    app = guarded(routes)
    if context.cache is not None:
        app = Caching(app)
    boundary = Boundary(app, context)
    # For the requests of batches, which meet every layer that those of clients meet.
    routes.state.whole = boundary
    if not settings.cors_origins:
        return boundary
    return CORSMiddleware(
        boundary,
        allow_origins=settings.cors_origins,
        allow_credentials=settings.cors_credentials,
        allow_methods=("GET", "POST", "DELETE"),
        allow_headers=("*",),
        expose_headers=_EXPOSED_HEADERS,
    )
