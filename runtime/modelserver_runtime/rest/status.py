"""/status: everything that a person wants to know about a server, in one answer."""

import asyncio
from collections.abc import Iterator

from fastapi import APIRouter

from modelserver_runtime import __version__
from modelserver_runtime.rest.admin_cache import describe_cache
from modelserver_runtime.rest.context import Context, ServerContext
from modelserver_runtime.rest.model_reports import reports_of
from modelserver_runtime.rest.schemas.status import DeviceReport, EngineReport, ServerStatus

router = APIRouter(tags=["Health"])


@router.get("/status")
async def status(context: Context) -> ServerStatus:
    """Models, queues, circuits, cache and hardware; 200 also while the server is not ready."""
    readiness = context.lifecycle.readiness()
    return ServerStatus(
        status="ready" if readiness.is_well else "not ready",
        reason=readiness.reason,
        version=__version__,
        revision=context.settings.revision,
        uptime_seconds=max(0.0, context.wall_clock() - context.created),
        models=reports_of(context),
        engines=list(_engines(context)),
        cache=await describe_cache(context),
        hardware=await asyncio.to_thread(_hardware),
    )


def _engines(context: ServerContext) -> Iterator[EngineReport]:
    for model in context.models:
        if (service := model.lifecycle.current) is not None:
            gate = service.gate
            circuits = {str(failure): str(state) for failure, state in gate.circuits().items()}
            yield EngineReport(
                model=model.name, running=gate.inside, waiting=gate.waiting, circuits=circuits
            )


def _hardware() -> list[DeviceReport]:
    """Asked once in the life of the process, in a thread: some libraries take a second."""
    from modelserver_runtime.backends.hardware_detection import detected  # noqa: PLC0415  torch

    return [
        DeviceReport(
            name=device.name,
            is_usable=device.is_usable,
            description=device.description,
            memory_bytes=device.memory_bytes,
            details=device.details,
            reason=device.reason,
        )
        for device in detected()
    ]
