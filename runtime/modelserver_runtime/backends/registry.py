"""Loads the backend that a model's task needs, by the reference that the task's definition has."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from torch import nn

from modelserver_runtime.artifacts import Phase, Progress
from modelserver_runtime.backends import openvino_model
from modelserver_runtime.backends.base import (
    Backend,
    Computation,
    LoadedModel,
    ModelDescription,
)
from modelserver_runtime.backends.detection import Identity
from modelserver_runtime.backends.hardware import Device
from modelserver_runtime.backends.hardware_choice import AUTO, choose
from modelserver_runtime.backends.hardware_detection import detected
from modelserver_runtime.backends.loading import (
    LoadOptions,
    read_ahead,
    stay_offline,
    translated_errors,
    use_threads,
)
from modelserver_runtime.backends.token_cost import token_cost
from modelserver_runtime.errors import InvalidConfiguration, UnsupportedModel
from modelserver_runtime.settings import Dtype
from modelserver_runtime.tasks import find_task

_TEXT_GENERATION = "TextGeneration"
_INT8 = "int8"


class LoadTask(Protocol):
    """What a task's `loader` names.

    Returns the model, of which only sizes and types are asked, and the backend that answers. Every
    failure that a user can do something about is a StartupFailure.
    """

    def __call__(self, options: LoadOptions, identity: Identity) -> tuple[nn.Module, Backend]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRequest:
    """See the settings of the same names."""

    device: str = AUTO
    order: Sequence[str] = ("cpu",)
    may_fall_back: bool = False


def load_model(
    options: LoadOptions,
    identity: Identity,
    progress: Progress,
    request: DeviceRequest | None = None,
) -> LoadedModel:
    """A model that has answered once; every failure is a StartupFailure."""
    stay_offline()
    _require_dtype(options, identity)
    if request is not None:
        options = replace(options, device=pick_device(request, identity.task).name)
    threads = use_threads(options.threads)
    load = _loader(identity.task)
    read_ahead(options.directory, progress)
    progress.say(f"Loading {identity.architecture} for {identity.task}")
    model, backend = load(options, identity)
    progress.enter(Phase.WARMING_UP, message="Computing a first answer")
    with translated_errors():
        backend.warm_up()
    description = _describe(model, identity, threads, options.device)
    return LoadedModel(
        description=_as_computed(description, _computation(backend)), backend=backend
    )


def _require_dtype(options: LoadOptions, identity: Identity) -> None:
    if options.dtype is Dtype.INT8 and identity.task != _TEXT_GENERATION:
        raise InvalidConfiguration(
            f"The dtype Int8 is for {_TEXT_GENERATION}, and the task is {identity.task}",
            hint="Choose another dtype, or Auto.",
        )


def _loader(task: str) -> LoadTask:
    definition = find_task(task)
    if definition is None:
        raise UnsupportedModel(f"There is no task {task}", hint="See modelserver-runtime discover.")
    module, _, function = definition.loader.partition(":")
    try:
        load: LoadTask = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UnsupportedModel(
            f"What loads models for {task} cannot be imported: {error}",
            hint="Install what it needs, or choose another task.",
        ) from error
    return load


def pick_device(request: DeviceRequest, task: str) -> Device:
    """Raises a StartupFailure if there is none for this task."""

    def objection(device: Device) -> str:
        is_served = device.kind != "openvino" or task in openvino_model.TASKS
        return "" if is_served else f"OpenVINO does not compute {task} here"

    return choose(
        request.device,
        request.order,
        detected(),
        may_fall_back=request.may_fall_back,
        objection=objection,
    )


def _describe(model: nn.Module, identity: Identity, threads: int, device: str) -> ModelDescription:
    tensors = [*model.parameters(), *model.buffers()]
    first = next(model.parameters(), None)
    return ModelDescription(
        task=identity.task,
        architecture=identity.architecture,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        dtype="none" if first is None else str(first.dtype).removeprefix("torch."),
        device=device if first is None or _is_elsewhere(first, device) else str(first.device),
        threads=threads,
        memory_bytes=sum(tensor.nbytes for tensor in tensors),
        samples=_samples(model, identity.task),
        token_cost=token_cost(model) if identity.task == _TEXT_GENERATION else None,
    )


def _as_computed(description: ModelDescription, computation: Computation) -> ModelDescription:
    """An engine of our own keeps weights in its own way."""
    cost = description.token_cost
    if cost is not None and computation.dtype == _INT8:
        cost = replace(cost, weight_bytes=cost.weight_bytes // 2)  # of bf16
    return replace(
        description,
        engine=computation.engine,
        engine_reason=computation.reason,
        dtype=computation.dtype or description.dtype,
        memory_bytes=computation.memory_bytes or description.memory_bytes,
        token_cost=cost,
    )


def _computation(backend: Backend) -> Computation:
    """Models that generate or embed text can be computed by more than one engine."""
    computation: Computation = getattr(backend, "computation", Computation())
    return computation


def _is_elsewhere(parameter: nn.Parameter, device: str) -> bool:
    """OpenVINO and the decoder of our own have taken the weights out of torch's module."""
    return device.startswith("openvino") or parameter.is_meta


def _samples(model: nn.Module, task: str) -> bool:
    """By its own settings, or as everything of its task does."""
    definition = find_task(task)
    generation = getattr(model, "generation_config", None)
    is_random = definition is not None and definition.is_random
    return is_random or bool(getattr(generation, "do_sample", False))
