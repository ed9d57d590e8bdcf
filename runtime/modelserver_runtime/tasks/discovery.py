"""Finds the tasks: modules of this package, and entry points of installed ones."""

import importlib
import logging
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points

from modelserver_runtime.tasks.definition import TaskDefinition

log = logging.getLogger(__name__)

GROUP = "modelserver_runtime.tasks"
_PACKAGE = "modelserver_runtime.tasks"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignTaskFailure:
    """An installed package's task that cannot be used, and why."""

    entry_point: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    tasks: dict[str, TaskDefinition]
    failures: tuple[ForeignTaskFailure, ...]


def all_tasks() -> tuple[TaskDefinition, ...]:
    return tuple(_found().tasks.values())


def find_task(name: str) -> TaskDefinition | None:
    return _found().tasks.get(name)


def foreign_failures() -> tuple[ForeignTaskFailure, ...]:
    return _found().failures


@cache
def _found() -> _Found:
    tasks = {task.name: task for task in _own()}
    failures: list[ForeignTaskFailure] = []
    for point in entry_points(group=GROUP):
        try:
            task = _checked(point.load(), tasks)
        except Exception as error:  # noqa: BLE001  another package's import may raise anything
            log.warning("The task %s of an installed package is left out: %s", point.name, error)
            failures.append(ForeignTaskFailure(entry_point=point.value, reason=str(error)))
        else:
            tasks[task.name] = task
    return _Found(tasks=tasks, failures=tuple(failures))


def _own() -> Iterator[TaskDefinition]:
    package = importlib.import_module(_PACKAGE)
    for module in pkgutil.iter_modules(package.__path__):
        task = getattr(importlib.import_module(f"{_PACKAGE}.{module.name}"), "TASK", None)
        if isinstance(task, TaskDefinition):
            yield task


def _checked(task: object, known: dict[str, TaskDefinition]) -> TaskDefinition:
    if not isinstance(task, TaskDefinition):
        raise TypeError(f"it is a {type(task).__name__}; expected a TaskDefinition")
    if task.name in known:
        raise ValueError(f"its name {task.name} is taken by another task")
    if ":" not in task.loader:
        raise ValueError(f"its loader is {task.loader!r}; expected package.module:function")
    return task
