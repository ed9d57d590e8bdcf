"""One loaded model with the engine that its task needs."""

from dataclasses import dataclass, field, replace
from typing import Protocol

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
from modelserver_runtime.engine.batching import BatchEngine, BatchLimits
from modelserver_runtime.engine.engine import GenerationEngine
from modelserver_runtime.engine.scheduler import SchedulerLimits
from modelserver_runtime.engine.worker import AnyWorker, Clock
from modelserver_runtime.errors import TaskNotSupported
from modelserver_runtime.settings import Settings, Task
from modelserver_runtime.telemetry import ModelTelemetry

_ROUTES = {
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
    model: LoadedModel, settings: Settings, telemetry: ModelTelemetry, clock: Clock
) -> ModelService:
    """Starts the model's thread; must be called on the event loop."""
    match model.description.task:
        case Task.TEXT_GENERATION:
            return _start_generation(model, settings, telemetry, clock)
        case Task.EMBEDDINGS:
            return _start_embeddings(model, settings, telemetry, clock)
        case _:
            return _start_tasks(model, settings, telemetry, clock)


def _start_generation(
    model: LoadedModel, settings: Settings, telemetry: ModelTelemetry, clock: Clock
) -> ModelService:
    backend: GenerationBackend = model.backend  # type: ignore[assignment]  # by its task
    engine = GenerationEngine(
        backend,
        limits=SchedulerLimits(
            max_running=settings.max_running_sequences,
            max_batch_tokens=settings.max_batch_tokens,
            max_cached_tokens=backend.limits.max_cached_tokens,
        ),
        max_waiting=settings.max_waiting,
        telemetry=telemetry,
        clock=clock,
    )
    return ModelService(description=model.description, worker=engine.worker, _generation=engine)


def _start_embeddings(
    model: LoadedModel, settings: Settings, telemetry: ModelTelemetry, clock: Clock
) -> ModelService:
    backend: EmbeddingBackend = model.backend  # type: ignore[assignment]  # by its task
    engine: BatchEngine[EmbeddingItem] = BatchEngine(
        backend.run,
        limits=BatchLimits(max_items=settings.max_batch_size, max_cost=settings.max_batch_tokens),
        max_waiting=settings.max_waiting,
        telemetry=telemetry,
        clock=clock,
        cost=lambda item: len(item.token_ids),
    )
    service = EmbeddingService(backend=backend, engine=engine)
    return ModelService(description=model.description, worker=engine.worker, _embeddings=service)


def _start_tasks(
    model: LoadedModel, settings: Settings, telemetry: ModelTelemetry, clock: Clock
) -> ModelService:
    backend: BatchBackend = model.backend  # type: ignore[assignment]  # by its task
    engine: BatchEngine[TaskItem] = BatchEngine(
        backend.run,
        limits=BatchLimits(max_items=settings.max_batch_size, max_cost=settings.max_batch_size),
        max_waiting=settings.max_waiting,
        telemetry=telemetry,
        clock=clock,
    )
    return ModelService(description=model.description, worker=engine.worker, _tasks=engine)
