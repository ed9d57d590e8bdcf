"""All routes as one application."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp

from modelserver_runtime import __version__
from modelserver_runtime.engine.lifecycle import Lifecycle
from modelserver_runtime.engine.worker import Clock
from modelserver_runtime.rest import (
    chat,
    completions,
    embeddings,
    generate,
    health,
    models,
    tasks,
)
from modelserver_runtime.rest.boundary import Boundary
from modelserver_runtime.rest.context import ServerContext
from modelserver_runtime.rest.description import describe_tasks, drop_unused_statuses
from modelserver_runtime.rest.errors import TABLE, install_error_handlers
from modelserver_runtime.rest.schemas.errors import ErrorBody
from modelserver_runtime.settings import Settings
from modelserver_runtime.telemetry import Telemetry

_ROUTERS = (chat, completions, embeddings, models, tasks, generate, health)


def create_context(settings: Settings, *, clock: Clock, wall_clock: Clock) -> ServerContext:
    telemetry = Telemetry(model=settings.metrics_name, revision=settings.revision)
    return ServerContext(
        settings=settings,
        lifecycle=Lifecycle(
            telemetry=telemetry,
            clock=clock,
            step_timeout_seconds=settings.step_timeout_seconds,
        ),
        telemetry=telemetry,
        clock=clock,
        wall_clock=wall_clock,
        # One thread: tokenizers of transformers must not be called by two at once.
        tokenizing=ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenizer"),
        created=int(wall_clock()),
    )


def create_app(context: ServerContext) -> FastAPI:
    app = FastAPI(
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
    return app.openapi_schema or {}


def create_asgi(context: ServerContext) -> ASGIApp:
    """The application inside its boundary: what a server runs."""
    return Boundary(create_app(context), context)
