"""What `discover` and `hardware` print: tasks and devices, as a table or as JSON."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, TypeAdapter

from modelserver_runtime.tasks import TaskDefinition, all_tasks, foreign_failures


def describe_tasks(output: str) -> str:
    tasks = sorted(all_tasks(), key=lambda task: task.name)
    if output == "json":
        return json.dumps(
            {
                "tasks": [_task_json(task) for task in tasks],
                "failures": [
                    {"entry_point": failure.entry_point, "reason": failure.reason}
                    for failure in foreign_failures()
                ],
            },
            indent=2,
        )
    rows = [("TASK", "TAKES", "PARAMETERS", "ROUTES", "WHAT FOR"), *map(_task_row, tasks)]
    left_out = [
        f"left out: {failure.entry_point}: {failure.reason}" for failure in foreign_failures()
    ]
    return "\n".join([*_table(rows), *left_out])


def describe_hardware(output: str) -> str:
    """Asks every library that could compute, which takes seconds."""
    from modelserver_runtime.backends.hardware_detection import detected  # noqa: PLC0415

    found = detected()
    if output == "json":
        return json.dumps({"devices": [device.as_json() for device in found]}, indent=2)
    rows = [("DEVICE", "USABLE", "WHAT", "MEMORY", "DETAILS")]
    rows += [
        (
            device.name,
            "yes" if device.is_usable else "no",
            device.description or "-",
            _gibibytes(device.memory_bytes),
            device.reason or "; ".join(device.details) or "-",
        )
        for device in found
    ]
    return "\n".join(_table(rows))


def _task_row(task: TaskDefinition) -> tuple[str, ...]:
    parameters = list(task.schema.parameters.model_fields) if task.schema else []
    return (
        task.name,
        ", ".join(sorted(task.accepts)),
        ", ".join(parameters) or "-",
        ", ".join(task.routes),
        task.summary,
    )


def _task_json(task: TaskDefinition) -> dict[str, Any]:
    return {
        "name": task.name,
        "summary": task.summary,
        "accepts": sorted(task.accepts),
        "routes": list(task.routes),
        "pipeline": task.pipeline or None,
        "loader": task.loader,
        "inputs": _json_schema(task.schema.inputs) if task.schema else None,
        "parameters": _json_schema(task.schema.parameters) if task.schema else None,
        "answer": _json_schema(task.schema.answer) if task.schema else None,
    }


def _json_schema(kind: Any) -> dict[str, Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind.model_json_schema()
    return TypeAdapter(kind).json_schema()


def _gibibytes(size: int | None) -> str:
    return "-" if size is None else f"{size / (1 << 30):.1f} GiB"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as their widest cell; the last one as it is."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join([*cells, row[-1]]).rstrip()
