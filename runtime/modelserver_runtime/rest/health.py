"""What probes, scrapers and people ask about the server itself."""

from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response

from modelserver_runtime.artifacts import Phase
from modelserver_runtime.engine.lifecycle import Health
from modelserver_runtime.rest.context import JSON, Context

router = APIRouter(tags=["Health"])


def _json(content: Any, status: int) -> Response:
    return Response(orjson.dumps(content), status_code=status, media_type=JSON)


def _probe(health: Health, word: str) -> Response:
    if health.is_well:
        return _json({"status": word}, 200)
    return _json({"status": f"not {word}", "reason": health.reason}, 503)


@router.get("/livez")
async def livez(context: Context) -> Response:
    """200 while the process can still come to something; else it should be started again."""
    return _probe(context.lifecycle.liveness(), "alive")


@router.get("/ready")
@router.get("/readyz")
async def readyz(context: Context) -> Response:
    """200 once the model has answered, until the server drains."""
    return _probe(context.lifecycle.readiness(), "ready")


@router.get("/startupz")
async def startupz(context: Context) -> Response:
    """How far the start is; 200 as soon as the model has answered once."""
    report = context.lifecycle.report()
    has_started = report.phase in {Phase.READY, Phase.DRAINING}
    return _json(report.as_json(), 200 if has_started else 503)


@router.get("/health")
async def health(context: Context) -> Response:
    """Readiness and what is served, in one answer for people."""
    readiness = context.lifecycle.readiness()
    body: dict[str, Any] = {
        "status": "ready" if readiness.is_well else "not ready",
        "model": context.settings.api_name,
        "revision": context.settings.revision,
        **context.lifecycle.report().as_json(),
    }
    if not readiness.is_well:
        body["reason"] = readiness.reason
    if (service := context.lifecycle.current) is not None:
        body["serves"] = service.description
    return _json(body, 200 if readiness.is_well else 503)


@router.get("/metrics")
async def metrics(request: Request, context: Context) -> Response:
    content, media_type = context.telemetry.render(request.headers.get("accept", ""))
    return Response(content, media_type=media_type)
