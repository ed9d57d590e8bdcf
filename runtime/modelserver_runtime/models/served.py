"""One model that the server knows, in memory or not.

Unloaded → Loading → Ready → Draining → Unloaded
               └──▶ Failed ──(after a pause)──▶ Loading
"""

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from modelserver_runtime.backends.base import ModelDescription
from modelserver_runtime.engine.lifecycle import Lifecycle
from modelserver_runtime.engine.service import ModelService
from modelserver_runtime.engine.worker import Clock
from modelserver_runtime.errors import RuntimeFailure
from modelserver_runtime.models.identity import identity_of
from modelserver_runtime.settings import Settings
from modelserver_runtime.telemetry import ModelTelemetry


class ModelState(StrEnum):
    UNLOADED = "Unloaded"
    LOADING = "Loading"
    READY = "Ready"
    DRAINING = "Draining"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadFailure:
    """`at` is a reading of the monotonic clock, in seconds."""

    failure: RuntimeFailure
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How a model is kept: a pinned one never gives way to another, a preloaded one is awaited."""

    is_primary: bool = False
    is_pinned: bool = False
    is_preloaded: bool = False


class ServedModel:
    """Used on the event loop only. `settings` are those of this model, not of the server."""

    def __init__(
        self, settings: Settings, telemetry: ModelTelemetry, clock: Clock, keeping: Keeping
    ) -> None:
        self.settings = settings
        self.telemetry = telemetry
        self.keeping = keeping
        self._clock = clock
        self.lifecycle = self._new_lifecycle()
        self.load_failure: LoadFailure | None = None
        self.loading: asyncio.Task[None] | None = None
        self.size_bytes = 0
        self.last_used = clock()
        self.leases = 0
        self.idle = _set_event()
        self.undrained = _set_event()

    def _new_lifecycle(self) -> Lifecycle:
        return Lifecycle(
            telemetry=self.telemetry,
            clock=self._clock,
            step_timeout_seconds=self.settings.step_timeout_seconds,
        )

    @property
    def name(self) -> str:
        return self.settings.api_name

    @property
    def names(self) -> tuple[str, ...]:
        return self.settings.api_names

    @property
    def service(self) -> ModelService:
        """Raises NotReady while the model is not in memory."""
        return self.lifecycle.service

    @property
    def is_in_memory(self) -> bool:
        return self.lifecycle.current is not None

    @property
    def may_leave(self) -> bool:
        return not (self.keeping.is_primary or self.keeping.is_pinned)

    @property
    def state(self) -> ModelState:
        if not self.undrained.is_set():
            return ModelState.DRAINING
        if self.lifecycle.current is not None:
            return ModelState.READY
        if self.load_failure is not None or self.lifecycle.failure is not None:
            return ModelState.FAILED
        is_loading = self.loading is not None or self.keeping.is_primary
        return ModelState.LOADING if is_loading else ModelState.UNLOADED

    @cached_property
    def identity(self) -> str:
        """See `models.identity`; only of a model in memory."""
        return identity_of(self.settings, self.service.description)

    @property
    def fingerprint(self) -> str:
        """Changes when the answers may: OpenAI's `system_fingerprint`."""
        if self.keeping.is_primary:
            return f"fp_{self.settings.revision}"
        return f"fp_{self.settings.revision}_{self.identity[:12]}"

    def begin_loading(self) -> None:
        self.load_failure = None
        self.lifecycle = self._new_lifecycle()

    def loaded(self, service: ModelService) -> None:
        self.size_bytes = service.description.memory_bytes or self.size_bytes
        self.last_used = self._clock()
        self.lifecycle.became_ready(service)

    def load_failed(self, failure: RuntimeFailure) -> None:
        self.load_failure = LoadFailure(failure=failure, at=self._clock())

    def unloaded(self) -> None:
        self.lifecycle.begin_drain()
        self.lifecycle = self._new_lifecycle()
        self.size_bytes = 0
        self.__dict__.pop("identity", None)

    @property
    def description(self) -> ModelDescription | None:
        service = self.lifecycle.current
        return service.description if service else None


class ModelLease:
    """See `models.leases`; counts from its making."""

    def __init__(self, model: ServedModel, clock: Clock) -> None:
        self.model = model
        self._clock = clock
        self._is_held = True
        model.leases += 1
        model.last_used = clock()
        model.idle.clear()

    def release(self) -> None:
        """Also twice."""
        if not self._is_held:
            return
        self._is_held = False
        self.model.leases -= 1
        self.model.last_used = self._clock()
        if not self.model.leases:
            self.model.idle.set()


def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event
