"""What models can be served for: a module for each task, and those of installed packages."""

from modelserver_runtime.tasks.definition import (
    PREDICT_ROUTES,
    Medium,
    TaskDefinition,
    TaskSchema,
)
from modelserver_runtime.tasks.discovery import (
    GROUP,
    ForeignTaskFailure,
    all_tasks,
    find_task,
    foreign_failures,
)

__all__ = [
    "GROUP",
    "PREDICT_ROUTES",
    "ForeignTaskFailure",
    "Medium",
    "TaskDefinition",
    "TaskSchema",
    "all_tasks",
    "find_task",
    "foreign_failures",
]
