"""The router's process: listens, follows its route, and ends as `process.ending` says."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

from modelserver_runtime.gateway.administration import Administration
from modelserver_runtime.gateway.doors import (
    Doors,
    Sockets,
    passing_listener,
    run_to_end,
    until_refusal,
)
from modelserver_runtime.gateway.metrics import registry_of
from modelserver_runtime.gateway.mirror import MirrorLimits
from modelserver_runtime.gateway.route_file import RouteFile
from modelserver_runtime.gateway.router import Router
from modelserver_runtime.gateway.status import Status
from modelserver_runtime.process.ending import Ending, Say
from modelserver_runtime.settings import Settings


def run_router(settings: Settings, path: Path, sockets: Sockets, say: Say) -> None:
    """Returns when drained."""
    run_to_end(_Process(settings, path, say).run(sockets))


class _Process:
    def __init__(self, settings: Settings, path: Path, say: Say) -> None:
        self._say = say
        self._ending = Ending(settings, say)
        self._router = Router(time.monotonic, _limits(settings))  # noqa: TID251  the shell's clock
        self._route_file = RouteFile(path, self._router.follow, self._router.tally)

    async def run(self, sockets: Sockets) -> None:
        self._ending.hear_signals()
        self._route_file.look()
        doors = Doors(passing_listener(self._router), self._administration(), sockets, self._say)
        watching = asyncio.ensure_future(self._route_file.watch(self._ending.is_due))
        await self._ending.is_due.wait()
        await self._drain(doors)
        await doors.close()
        await watching

    def _administration(self) -> Administration:
        started = datetime.now(UTC)  # noqa: TID251  as above
        status = Status(router=self._router, route_file=self._route_file, started_at=started)
        reports = {"/router/status": status.as_json}
        return Administration(status.readiness, registry_of(status), reports)

    async def _drain(self, doors: Doors) -> None:
        left = await doors.drain(self._ending, self._router.begin_drain)
        await until_refusal(doors.serving, left)
        self._router.holder.refuse_all()
        await asyncio.wait({doors.serving})
        self._router.close()


def _limits(settings: Settings) -> MirrorLimits:
    return MirrorLimits(
        max_concurrent=settings.shadow_max_concurrent,
        max_body_bytes=settings.shadow_max_body_bytes,
        max_bytes=settings.shadow_max_bytes,
    )
