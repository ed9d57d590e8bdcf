"""One loaded model with the engine that its task needs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from modelserver_runtime.backends.base import (
    BatchBackend,
    EmbeddingBackend,
    EmbeddingItem,
    GenerationBackend,
    LoadedModel,
    ModelDescription,
    TaskItem,
)
from modelserver_runtime.engine.answering import Answerer, Generator
from modelserver_runtime.engine.batch_composition import BatchLimits
from modelserver_runtime.engine.batch_steps import BatchRules
from modelserver_runtime.engine.batching import BatchEngine, ItemKind
from modelserver_runtime.engine.breaker import Breaker, BreakerLimits
from modelserver_runtime.engine.engine import GenerationEngine
from modelserver_runtime.engine.gate import Gate
from modelserver_runtime.engine.items import EMBEDDINGS, TASKS
from modelserver_runtime.engine.queue import QueueLimits
from modelserver_runtime.engine.scheduler import SchedulerLimits
from modelserver_runtime.engine.turns import Turns
from modelserver_runtime.engine.watchdog import Watchdog, WatchdogLimits
from modelserver_runtime.engine.worker import AnyWorker, Clock
from modelserver_runtime.errors import TaskNotSupported
from modelserver_runtime.settings import QueueScope, Settings, Task
from modelserver_runtime.telemetry import ModelTelemetry

_ROUTES: Mapping[str, str] = {
    Task.TEXT_GENERATION: "/v1/chat/completions, /v1/completions and /generate",
    Task.EMBEDDINGS: "/v1/embeddings",
}
_TASK_ROUTES = "/predict and /batch-predict"


class Layer(Protocol):
    """What stands in front of an engine, for each kind of engine."""

    def generator(self, engine: Generator) -> Generator: ...

    def embeddings(self, engine: Answerer[EmbeddingItem]) -> Answerer[EmbeddingItem]: ...

    def tasks(self, engine: Answerer[TaskItem]) -> Answerer[TaskItem]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingService:
    backend: EmbeddingBackend
    engine: Answerer[EmbeddingItem]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelService:
    """Exactly one of `_generation`, `_embeddings` and `_tasks` is there."""

    description: ModelDescription
    worker: AnyWorker
    gate: Gate
    _generation: Generator | None = field(default=None)
    _embeddings: EmbeddingService | None = field(default=None)
    _tasks: Answerer[TaskItem] | None = field(default=None)

    @property
    def generation(self) -> Generator:
        return self._require(self._generation, "generate text")

    @property
    def embeddings(self) -> EmbeddingService:
        return self._require(self._embeddings, "embed text")

    @property
    def tasks(self) -> Answerer[TaskItem]:
        return self._require(self._tasks, "answer on this route")

    @property
    def max_model_length(self) -> int | None:
        if self._generation:
            return self._generation.backend.limits.max_model_length
        return self._embeddings.backend.limits.max_model_length if self._embeddings else None

    def behind(self, layer: Layer) -> "ModelService":
        """The same model, whose engine is asked through a layer in front of it."""
        embeddings = self._embeddings
        return replace(
            self,
            _generation=self._generation and layer.generator(self._generation),
            _tasks=self._tasks and layer.tasks(self._tasks),
            _embeddings=embeddings
            and replace(embeddings, engine=layer.embeddings(embeddings.engine)),
        )

    def _require[T](self, part: T | None, ability: str) -> T:
        if part is None:
            task = self.description.task
            raise TaskNotSupported(
                f"The model is served for {task} and does not {ability}; "
                f"use {_ROUTES.get(task, _TASK_ROUTES)}"
            )
        return part


def start_service(
    model: LoadedModel,
    settings: Settings,
    telemetry: ModelTelemetry,
    clock: Clock,
    turns: Turns | None = None,
) -> ModelService:
    """Starts the model's thread; must be called on the event loop.

    `turns` are shared with other models; without them the model has its own.
    """
    places = _places(model, settings)
    gate = Gate(
        turns or make_turns(settings, clock, places=places),
        Breaker(_breaker_limits(settings)),
        queue_timeout_seconds=settings.queue_timeout_seconds,
        telemetry=telemetry,
        clock=clock,
    )
    parts = _Parts(settings=settings, gate=gate, telemetry=telemetry, clock=clock)
    service = _START.get(model.description.task, _start_tasks)(model, parts)
    limits = WatchdogLimits(
        step_seconds=settings.step_timeout_seconds, exit_seconds=settings.stuck_exit_seconds
    )
    Watchdog(service.worker, gate, limits, clock).start()
    return service


def make_turns(settings: Settings, clock: Clock, *, places: int) -> Turns:
    limits = QueueLimits(
        max_waiting=settings.max_waiting, ageing_seconds=settings.queue_ageing_seconds
    )
    return Turns(places=places, limits=limits, clock=clock)


def shared_turns(settings: Settings, clock: Clock) -> Turns | None:
    """For all models together, if they are to stand in one queue."""
    if settings.queue_scope is QueueScope.MODEL:
        return None
    return make_turns(settings, clock, places=settings.max_running_sequences)


def _places(model: LoadedModel, settings: Settings) -> int:
    """While one batch is computed the next one gathers."""
    if model.description.task is Task.TEXT_GENERATION:
        return settings.max_running_sequences
    return 2 * settings.max_batch_size


def _breaker_limits(settings: Settings) -> BreakerLimits:
    return BreakerLimits(
        failures=settings.breaker_failures,
        open_seconds=settings.breaker_open_seconds,
        probes=settings.breaker_probes,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What every kind of engine is made with."""

    settings: Settings
    gate: Gate
    telemetry: ModelTelemetry
    clock: Clock

    @property
    def batch_rules(self) -> BatchRules:
        limits = BatchLimits(
            max_items=self.settings.max_batch_size, max_cost=self.settings.max_batch_tokens
        )
        milliseconds = self.settings.batch_max_wait_milliseconds
        return BatchRules(limits=limits, max_wait_seconds=milliseconds / 1000)


def _start_generation(model: LoadedModel, parts: _Parts) -> ModelService:
    backend: GenerationBackend = model.backend  # type: ignore[assignment]  # by its task
    engine = GenerationEngine(
        backend,
        gate=parts.gate,
        limits=SchedulerLimits(
            max_running=parts.settings.max_running_sequences,
            max_batch_tokens=parts.settings.max_batch_tokens,
            max_cached_tokens=backend.limits.max_cached_tokens,
            cuts_prompts=backend.limits.cuts_prompts,
            inter_token_seconds=parts.settings.inter_token_milliseconds / 1000 or None,
            ageing_seconds=parts.settings.queue_ageing_seconds,
        ),
        telemetry=parts.telemetry,
        clock=parts.clock,
    )
    return ModelService(
        description=model.description, worker=engine.worker, gate=parts.gate, _generation=engine
    )


def _start_embeddings(model: LoadedModel, parts: _Parts) -> ModelService:
    backend: EmbeddingBackend = model.backend  # type: ignore[assignment]  # by its task
    engine = _batch_engine(backend, EMBEDDINGS, parts, pads=backend.limits.pads)
    service = EmbeddingService(backend=backend, engine=engine)
    return ModelService(
        description=model.description, worker=engine.worker, gate=parts.gate, _embeddings=service
    )


def _start_tasks(model: LoadedModel, parts: _Parts) -> ModelService:
    backend: BatchBackend = model.backend  # type: ignore[assignment]  # by its task
    engine = _batch_engine(backend, TASKS, parts)
    return ModelService(
        description=model.description, worker=engine.worker, gate=parts.gate, _tasks=engine
    )


class _ItemBackend[Item](Protocol):
    def warm_up(self) -> None: ...

    def run(self, items: Sequence[Item]) -> Sequence[Any]: ...


def _batch_engine[Item](
    backend: _ItemBackend[Item], kind: ItemKind[Item], parts: _Parts, *, pads: bool = True
) -> BatchEngine[Item]:
    rules = parts.batch_rules
    return BatchEngine(
        backend.run,
        probe=backend.warm_up,
        gate=parts.gate,
        rules=replace(rules, limits=replace(rules.limits, pads=pads)),
        kind=kind,
        telemetry=parts.telemetry,
        clock=parts.clock,
    )


_START: Mapping[str, Callable[[LoadedModel, _Parts], ModelService]] = {
    Task.TEXT_GENERATION: _start_generation,
    Task.EMBEDDINGS: _start_embeddings,
}
