"""What the routes are made of: settings, the model's life, metrics, a clock."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import Depends, Request

from modelserver_runtime.engine.lifecycle import Lifecycle
from modelserver_runtime.engine.request import Ticket
from modelserver_runtime.engine.service import ModelService
from modelserver_runtime.engine.worker import Clock
from modelserver_runtime.errors import InvalidRequest, ModelNotFound, UnsupportedMedia
from modelserver_runtime.settings import Settings
from modelserver_runtime.telemetry import Telemetry

JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerContext:
    """`tokenizing` runs what is slow and not the model's: templates and tokenizers.

    `created` is the Unix time of the start, in seconds, for fields of that name.
    """

    settings: Settings
    lifecycle: Lifecycle
    telemetry: Telemetry
    clock: Clock
    wall_clock: Clock
    tokenizing: Executor
    created: int

    @property
    def fingerprint(self) -> str:
        """Changes when the answers may: OpenAI's `system_fingerprint`."""
        return f"fp_{self.settings.revision}"

    @property
    def service(self) -> ModelService:
        return self.lifecycle.service

    def ticket(self) -> Ticket:
        """Of a request that has just come."""
        now = self.clock()
        return Ticket(arrived=now, deadline=now + self.settings.request_timeout_seconds)

    def require_model(self, name: str) -> None:
        names = self.settings.api_names
        if name not in names:
            raise ModelNotFound(
                f"The model {name!r} does not exist; this server has {', '.join(names)}",
                param="model",
            )

    def require_few(self, count: int, param: str) -> None:
        most = self.settings.max_list_items
        if count > most:
            raise InvalidRequest(
                f"{param} has {count} entries; at most {most} are accepted in one request",
                param=param,
            )

    async def in_thread[**P, T](
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.tokenizing, partial(function, *args, **kwargs))


def _context(request: Request) -> ServerContext:
    context: ServerContext = request.app.state.context
    return context


async def require_json(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON:
        found = f"Content-Type is {kind}" if kind else "There is no Content-Type"
        raise UnsupportedMedia(
            f"{found}; send JSON with Content-Type: {JSON} (curl: -H 'Content-Type: {JSON}')"
        )


type Context = Annotated[ServerContext, Depends(_context)]
NeedsJson = Depends(require_json)
