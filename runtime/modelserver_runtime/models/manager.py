"""Finds models by name, loads each once, and makes room for it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from modelserver_runtime.artifacts import Progress
from modelserver_runtime.backends.base import LoadedModel
from modelserver_runtime.engine.service import ModelService
from modelserver_runtime.engine.worker import Clock
from modelserver_runtime.errors import (
    Conflict,
    ModelNotFound,
    ModelUnavailable,
    NotReady,
    RequestFailure,
    RuntimeCrash,
    RuntimeFailure,
    StartupFailure,
)
from modelserver_runtime.models.residency import NoRoom, Resident, Room, victims
from modelserver_runtime.models.served import ModelLease, ModelState, ServedModel
from modelserver_runtime.settings import Settings
from modelserver_runtime.telemetry import Telemetry

log = logging.getLogger(__name__)

# For the step that an idle model's thread may be in the middle of.
_WORKER_STOP_SECONDS = 10.0
_RETRY_SECONDS = 5.0


class Loader(Protocol):
    """What brings a model into memory; every failure is a StartupFailure."""

    async def fetch(self, settings: Settings, progress: Progress) -> None:
        """Brings its files to its directory, if they are not there."""
        ...

    def estimate_bytes(self, settings: Settings) -> int:
        """Memory that its weights will take; reads files."""
        ...

    def free_bytes(self, device: str) -> int:
        """Memory that models may still take there."""
        ...

    async def load(self, settings: Settings, progress: Progress) -> LoadedModel: ...

    def release(self) -> None:
        """Gives back what a model held that nobody knows any more."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagerRules:
    """`budget_bytes` 0: what is free. `drain_seconds` is for the requests of one that gives way."""

    max_loaded: int
    budget_bytes: int
    load_on_request: bool
    failure_pause_seconds: float
    drain_seconds: float


class ModelManager:
    """Used on the event loop only. The first model is the primary: it is loaded by the process."""

    def __init__(
        self,
        models: Sequence[ServedModel],
        *,
        rules: ManagerRules,
        loader: Loader,
        start: Callable[[ServedModel, LoadedModel], ModelService],
        telemetry: Telemetry,
        clock: Clock,
    ) -> None:
        self._models = tuple(models)
        self._by_name = {name: model for model in models for name in model.names}
        self._rules = rules
        self._loader = loader
        self._start = start
        self._clock = clock
        self._device = "cpu"  # the primary's: all models have the same settings for it
        # transformers changes defaults of the whole process while it loads.
        self._one_at_a_time = asyncio.Lock()
        telemetry.models_loaded.set_function(lambda: len(self._in_memory()))

    @property
    def primary(self) -> ServedModel:
        return self._models[0]

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._by_name)

    def find(self, name: str) -> ServedModel:
        model = self._by_name.get(name)
        if model is None:
            raise ModelNotFound(
                f"The model {name!r} does not exist; this server has {', '.join(self.names)}",
                param="model",
            )
        return model

    async def lease(self, model: ServedModel, *, deadline: float) -> ModelLease:
        """The model in memory, where it stays until the lease is released."""
        while model.state is ModelState.DRAINING:
            await self._wait(model, model.undrained.wait(), deadline)
        lease = ModelLease(model, self._clock)
        try:
            self._forget_dead(model)
            if not model.is_in_memory:
                self._require_permission(model)
                await self._ensure_loaded(model, deadline)
            _ = model.service  # of the primary, which nobody loads here: raises NotReady
        except BaseException:
            lease.release()
            raise
        return lease

    async def load(self, model: ServedModel, *, deadline: float) -> None:
        """Returns at once if it is in memory."""
        while model.state is ModelState.DRAINING:
            await self._wait(model, model.undrained.wait(), deadline)
        if not model.is_in_memory:
            await self._ensure_loaded(model, deadline)

    async def unload(self, model: ServedModel) -> bool:
        """Waits for its requests; whether it was in memory."""
        if not model.may_leave:
            raise Conflict(f"The model {model.name} is pinned and stays in memory", param="model")
        if model.loading is not None:
            raise Conflict(f"The model {model.name} is being loaded; try again later")
        model.load_failure = None
        if not model.is_in_memory:
            return False
        await self._remove(model)
        return True

    def start_primary(self, loaded: LoadedModel) -> ModelService:
        """From now on the server is ready."""
        self._device = loaded.description.device
        service = self._start(self.primary, loaded)
        self.primary.loaded(service)
        return service

    def begin_drain(self) -> None:
        """The process is about to end."""
        for model in self._models:
            if model.keeping.is_primary or model.is_in_memory:
                model.lifecycle.begin_drain()

    def stop(self, timeout_seconds: float) -> None:
        """Ends the threads of all models; what they have not computed is lost."""
        for model in self._in_memory():
            model.service.worker.stop(timeout_seconds)

    async def preload(self, primary: LoadedModel) -> None:
        """Before the primary starts. Failures stay with their models; the others are served."""
        self.primary.size_bytes = primary.description.memory_bytes
        self._device = primary.description.device
        for model in self._models:
            if model.keeping.is_preloaded and not model.is_in_memory:
                await self._loading(model)

    def _forget_dead(self, model: ServedModel) -> None:
        """The primary's death ends the process; another model is loaded again, after a pause."""
        service = model.lifecycle.current
        if service is None or service.worker.is_alive or model.keeping.is_primary:
            return
        model.unloaded()
        self._note_failure(model, RuntimeCrash("Its thread has died; the log has the trace"))

    def _require_permission(self, model: ServedModel) -> None:
        if model.loading is None and not self._rules.load_on_request:
            raise ModelUnavailable(
                f"The model {model.name} is not in memory; load it with POST /models/load",
                param="model",
            )

    async def _ensure_loaded(self, model: ServedModel, deadline: float) -> None:
        if model.keeping.is_primary:
            return
        self._refuse_during_pause(model)
        await self._wait(model, asyncio.shield(self._loading(model)), deadline)
        if model.load_failure is not None:
            raise self._unavailable(model)

    def _refuse_during_pause(self, model: ServedModel) -> None:
        if model.load_failure is not None and self.pause_left(model) > 0:
            raise self._unavailable(model)

    def pause_left(self, model: ServedModel) -> float:
        """Seconds; a lack of room may be over at any time, so that it is not waited for."""
        if model.load_failure is None or isinstance(model.load_failure.failure, RequestFailure):
            return 0.0
        return model.load_failure.at + self._rules.failure_pause_seconds - self._clock()

    def _unavailable(self, model: ServedModel) -> RequestFailure:
        reason = model.load_failure.failure if model.load_failure else "it was unloaded"
        return ModelUnavailable(
            f"The model {model.name} could not be loaded: {reason}",
            param="model",
            retry_after_seconds=max(_RETRY_SECONDS, self.pause_left(model)),
        )

    def _loading(self, model: ServedModel) -> "asyncio.Task[None]":
        """One load, however many wait for it; it goes on when nobody does any more."""
        if model.loading is None:
            model.begin_loading()
            model.loading = asyncio.create_task(self._load(model))
        return model.loading

    async def _load(self, model: ServedModel) -> None:
        progress = model.lifecycle.progress
        try:
            await self._loader.fetch(model.settings, progress)
            async with self._one_at_a_time:
                await self._make_room(model)
                loaded = await self._loader.load(model.settings, progress)
                model.loaded(self._start(model, loaded))
        except (StartupFailure, RequestFailure) as failure:
            self._note_failure(model, failure)
        except Exception as error:
            log.exception("Loading %s failed", model.name)
            self._note_failure(model, RuntimeCrash(f"{type(error).__name__}: {error}"))
        finally:
            model.loading = None

    def _note_failure(self, model: ServedModel, failure: RuntimeFailure) -> None:
        log.warning("The model %s could not be loaded: %s", model.name, failure)
        model.load_failed(failure)

    async def _make_room(self, model: ServedModel) -> None:
        model.size_bytes = await asyncio.to_thread(self._loader.estimate_bytes, model.settings)
        residents = [_resident(other) for other in self._in_memory()]
        try:
            leaving = victims(residents, model.size_bytes, self._room(residents))
        except NoRoom as reason:
            raise ModelUnavailable(f"there is no room for it: {reason}") from reason
        for name in leaving:
            await self._remove(self.find(name))
            self.find(name).telemetry.evictions.inc()

    def _room(self, residents: Sequence[Resident]) -> Room:
        """The primary has its place also while it waits for those that are preloaded."""
        primary = self.primary
        expected = 0 if primary.is_in_memory else 1
        if self._rules.budget_bytes:
            budget = self._rules.budget_bytes - expected * primary.size_bytes
        else:
            budget = self._loader.free_bytes(self._device) + sum(
                each.size_bytes for each in residents
            )
        return Room(models=self._rules.max_loaded - expected, budget_bytes=budget)

    def _in_memory(self) -> list[ServedModel]:
        return [model for model in self._models if model.is_in_memory]

    async def _remove(self, model: ServedModel) -> None:
        """New requests for it wait until it is gone; if the old ones do not end, it stays."""
        if model.state is ModelState.DRAINING:
            await model.undrained.wait()
            return
        model.undrained.clear()
        try:
            async with asyncio.timeout(self._rules.drain_seconds):
                await model.idle.wait()
            await asyncio.to_thread(model.service.worker.stop, _WORKER_STOP_SECONDS)
            model.unloaded()
            await asyncio.to_thread(self._loader.release)
        except TimeoutError as error:
            raise ModelUnavailable(
                f"{model.name} must give way and still answers after "
                f"{self._rules.drain_seconds:.0f} s",
                retry_after_seconds=_RETRY_SECONDS,
            ) from error
        finally:
            model.undrained.set()

    async def _wait(self, model: ServedModel, awaitable: Awaitable[Any], deadline: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, deadline - self._clock())):
                await awaitable
        except TimeoutError as error:
            report = model.lifecycle.report()
            raise NotReady(
                f"The model {model.name} is not in memory yet: {report.phase}, {report.percent} %",
                retry_after_seconds=report.eta_seconds or _RETRY_SECONDS,
            ) from error


def _resident(model: ServedModel) -> Resident:
    return Resident(
        name=model.name,
        size_bytes=model.size_bytes,
        last_used=model.last_used,
        is_busy=model.leases > 0,
        may_leave=model.may_leave,
    )
