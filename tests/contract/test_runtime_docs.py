"""docs/runtime.md says what the code does: routes, errors, exit codes, settings, metrics."""

import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelserver_runtime import errors
from modelserver_runtime.app.application import create_app, create_context
from modelserver_runtime.observability.aliases import ALIASES
from modelserver_runtime.rest.errors import TABLE
from modelserver_runtime.settings import Settings, Task
from modelserver_runtime.settings.reference import render
from modelserver_runtime.tasks import all_tasks

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "runtime.md").read_text()
ARCHITECTURE = (DOCS / "architecture.md").read_text()


@pytest.fixture(scope="module")
def context() -> Any:
    return create_context(Settings(), clock=time.monotonic, wall_clock=time.time)


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    lines = [line for line in section(title).splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return cells[1:]


def test_the_reference_of_settings_is_what_the_code_says():
    assert (DOCS / "settings.md").read_text() == render(), "run: make reference"


def test_every_route_is_listed(context):
    described = {
        f"`{method.upper()} {path}`"
        for path, operations in create_app(context).openapi()["paths"].items()
        for method in operations
    }
    listed = {row[0] for row in rows("Routes")}
    assert listed == described


def test_every_metric_is_listed_with_its_kind(context):
    found = [
        [f"`{metric.name}{'_total' if metric.type == 'counter' else ''}`", metric.type]
        for metric in context.telemetry.registry.collect()
        if metric.name.startswith("modelserver_")
    ]
    listed = [row[:2] for row in rows("Metrics") if row[0].startswith("`modelserver_")]
    assert sorted(listed) == sorted(found)


def test_every_alias_is_listed():
    names = re.findall(r"`((?:hf_server_|vllm:)\w+)`", section("Metrics"))
    known = {alias.name for aliases in ALIASES.values() for alias in aliases}
    assert {name.removesuffix("_total") for name in names} == known


def test_every_task_is_listed():
    assert set(re.findall(r"`([A-Z]\w+)`", " ".join(row[0] for row in rows("Tasks")))) == {
        task.name for task in all_tasks()
    }


def test_the_tasks_of_the_resource_are_those_of_the_runtime():
    crd = yaml.safe_load((DOCS.parent / "crds" / "modelserver.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    names = schema["properties"]["spec"]["properties"]["model"]["properties"]["task"]["enum"]
    assert set(names) == {Task.AUTO, *(task.name for task in all_tasks())}


def test_every_error_is_listed_with_its_status():
    listed = {(row[0], row[1].strip("`")) for row in rows("Errors")}
    assert {(str(mapped.status), mapped.code or "") for mapped in TABLE.values()} <= listed
    raised = {cls for cls in vars(errors).values() if is_a_request_failure(cls)}
    assert raised == set(TABLE)


def is_a_request_failure(cls: Any) -> bool:
    base = errors.RequestFailure
    return isinstance(cls, type) and issubclass(cls, base) and cls is not base


def startup_failures() -> dict[str, int]:
    base = errors.StartupFailure
    return {
        name: cls.exit_code
        for name, cls in vars(errors).items()
        if isinstance(cls, type) and issubclass(cls, base) and cls is not base
    }


@pytest.mark.parametrize("page", [PAGE, ARCHITECTURE], ids=["runtime", "architecture"])
def test_every_exit_code_is_listed(page):
    found = re.findall(r"^\| (\d\d?) \| `(\w+)` \|", page, re.MULTILINE)
    assert {code: int(status) for status, code in found} == startup_failures()
