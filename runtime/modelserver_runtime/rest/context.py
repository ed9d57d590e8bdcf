"""What the routes are made of: settings, the model's life, metrics, a clock."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Protocol

from fastapi import Depends, Request

from modelserver_runtime.access.caller import Caller
from modelserver_runtime.access.guard import Guard
from modelserver_runtime.cache.response_cache import ResponseCache
from modelserver_runtime.engine.lifecycle import Lifecycle
from modelserver_runtime.engine.request import Ticket
from modelserver_runtime.engine.service import ModelService
from modelserver_runtime.engine.worker import Clock
from modelserver_runtime.errors import InvalidRequest, UnsupportedMedia
from modelserver_runtime.models.leases import current_leases
from modelserver_runtime.models.manager import ModelManager
from modelserver_runtime.models.served import ServedModel
from modelserver_runtime.observability.tracing import Tracer
from modelserver_runtime.rest.caller import CALLER
from modelserver_runtime.rest.jobs.stores import Jobs
from modelserver_runtime.rest.priority import PriorityWish, ServiceTier, priority_of, wish_of
from modelserver_runtime.rest.prompts import PromptMemory
from modelserver_runtime.settings import Settings
from modelserver_runtime.storage import RedisStore
from modelserver_runtime.telemetry import Telemetry
from modelserver_runtime.timing import RequestTiming, current_request

JSON = "application/json"


class ModelUser(Protocol):
    """Who asks for a model, as far as a model's name matters."""

    def require_model(self, names: Sequence[str]) -> None:
        """Raises NotPermitted unless one of a model's names may be used."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerContext:
    """`tokenizing` runs what is slow and not the model's: templates and tokenizers.

    `created` is the Unix time of the start, in seconds, for fields of that name. There is no
    `cache` if the settings want none. A route's context has its request's caller; the one that is
    not a request's has nobody, who may use every model.
    """

    settings: Settings
    models: ModelManager
    telemetry: Telemetry
    clock: Clock
    wall_clock: Clock
    tokenizing: Executor
    created: int
    jobs: Jobs
    guard: Guard
    redis: RedisStore | None = None
    caller: Caller = field(default_factory=Caller)
    header_priority: PriorityWish | None = None
    tracer: Tracer | None = None
    cache: ResponseCache | None = None
    prompts: PromptMemory = field(default_factory=PromptMemory)

    @property
    def primary(self) -> ServedModel:
        """The model that the server is made for; its health is the server's."""
        return self.models.primary

    @property
    def lifecycle(self) -> Lifecycle:
        return self.primary.lifecycle

    @property
    def service(self) -> ModelService:
        return self.primary.service

    @property
    def usable_models(self) -> list[ServedModel]:
        """Those that the caller may use."""
        return [model for model in self.models if self.caller.may_use(model.names)]

    def find(self, name: str) -> ServedModel:
        """The model of this name, whether it is in memory or not; only if the caller may use it."""
        model = self.models.find(name)
        self.caller.require_model(model.names)
        return model

    async def model(
        self, name: str | None, caller: ModelUser | None = None, *, deadline: float | None = None
    ) -> ServedModel:
        """The model of this name (None: the primary), in memory until the exchange is over.

        Loads it if need be, until `deadline`, a reading of the clock.
        """
        model = self.primary if name is None else self.models.find(name)
        (caller or self.caller).require_model(model.names)
        latest = self.clock() + self.settings.request_timeout_seconds
        lease = await self.models.lease(model, deadline=deadline or latest)
        current_leases().add(lease)
        return model

    def ticket(
        self, *, tier: ServiceTier | None = None, priority: PriorityWish | None = None
    ) -> Ticket:
        """Of a request that has just come; `tier` and `priority` are what its body asks for."""
        now = self.clock()
        wanted = priority_of(priority, self.header_priority, tier)
        return Ticket(
            arrived=now,
            deadline=now + self.settings.request_timeout_seconds,
            priority=self.caller.capped(wanted),
            tenant=self.caller.tenant,
            timing=current_request.get() or RequestTiming(),
        )

    def require_few(self, count: int, param: str) -> None:
        most = self.settings.max_list_items
        if count > most:
            raise InvalidRequest(
                f"{param} has {count} entries; at most {most} are accepted in one request",
                param=param,
            )

    async def close(self) -> None:
        """After the last answer."""
        if self.cache is not None:
            await self.cache.close()
        await self.guard.ledger.flush(is_due=True)
        if self.redis is not None:
            await self.redis.close()

    async def in_thread[**P, T](
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        timing = current_request.get() or RequestTiming()
        timing.tokenizing = timing.tokenizing or self.clock()
        try:
            loop = asyncio.get_running_loop()
            call = partial(function, *args, **kwargs)
            return await loop.run_in_executor(self.tokenizing, call)
        finally:
            timing.tokenized = self.clock()


async def context_of(request: Request) -> ServerContext:
    """Not a plain function: FastAPI would run it in a thread, which costs more than a hit does."""
    context: ServerContext = request.app.state.context
    caller, wish = request.scope.get(CALLER), wish_of(request.headers)
    if caller is None and wish is None:
        return context
    return replace(context, caller=caller or context.caller, header_priority=wish)


async def require_json(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON:
        found = f"Content-Type is {kind}" if kind else "There is no Content-Type"
        raise UnsupportedMedia(
            f"{found}; send JSON with Content-Type: {JSON} (curl: -H 'Content-Type: {JSON}')"
        )


type Context = Annotated[ServerContext, Depends(context_of)]
NeedsJson = Depends(require_json)
