"""Tasks are found by module and by entry point, and are known without what computes them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers.pipelines import SUPPORTED_TASKS

from modelserver_runtime.__main__ import run
from modelserver_runtime.app.loader import load
from modelserver_runtime.artifacts import Progress
from modelserver_runtime.backends.detection import identify
from modelserver_runtime.errors import InvalidConfiguration, UnsupportedModel
from modelserver_runtime.settings import Task
from modelserver_runtime.tasks import GROUP, all_tasks, discovery, find_task, foreign_failures
from support.runtime_server import running_server, settings_for

PACKAGE = '''
"""A task of a package that is installed beside the server."""

from typing import Any

from torch import nn

from modelserver_runtime.backends.base import TaskItem
from modelserver_runtime.backends.loaders import load_embedder
from modelserver_runtime.tasks import Medium, TaskDefinition, TaskSchema
from modelserver_runtime.tasks.common import NoParameters, Text

TASK = TaskDefinition(
    name="WordCount",
    summary="how many tokens a text has",
    accepts=frozenset({Medium.TEXT}),
    loader="counting_task:load",
    schema=TaskSchema(inputs=Text, parameters=NoParameters, answer=int),
    architectures=("ForWordCount",),
)
NOT_A_TASK = 7


class Counter:
    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def warm_up(self) -> None:
        self.run([TaskItem(inputs="warm up")])

    def run(self, items: Any) -> Any:
        return [len(self._tokenizer.encode(item.inputs)) for item in items]


def load(options: Any, identity: Any) -> tuple[nn.Module, Counter]:
    model, embedder = load_embedder(options, identity)
    return model, Counter(embedder.tokenizer)
'''
ENTRY_POINTS = f"""
[{GROUP}]
count = counting_task:TASK
number = counting_task:NOT_A_TASK
absent = no_such_module:TASK
"""


@pytest.fixture
def installed_package(tmp_path, monkeypatch):
    """A distribution as pip leaves it: a module, and metadata that names its entry points."""
    (tmp_path / "counting_task.py").write_text(PACKAGE)
    metadata = tmp_path / "counting_task-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: counting-task\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    discovery._found.cache_clear()
    yield
    monkeypatch.undo()
    sys.modules.pop("counting_task", None)
    discovery._found.cache_clear()


def counting_model(embedder_directory: Path, directory: Path) -> Path:
    directory.mkdir()
    for path in embedder_directory.glob("*"):
        if path.is_file() and path.name not in {"modules.json", "config.json"}:
            (directory / path.name).write_bytes(path.read_bytes())
    config = json.loads((embedder_directory / "config.json").read_text())
    (directory / "config.json").write_text(
        json.dumps({**config, "architectures": ["BertForWordCount"]})
    )
    return directory


def test_an_installed_package_adds_a_task(installed_package, embedder_directory, tmp_path):
    assert find_task("WordCount").summary == "how many tokens a text has"
    directory = counting_model(embedder_directory, tmp_path / "model")
    assert identify(directory, Task.AUTO).task == "WordCount"
    with running_server(settings_for(directory)) as server:
        answer = server.post("/predict", inputs="the quick fox")
        assert answer.json() == {"task": "WordCount", "output": 5}
        assert server.post("/predict", inputs="").status_code == 400
        schemas = server.client.get("/openapi.json").json()["components"]["schemas"]
        assert "WordCountRequest" in schemas


def test_what_an_installed_package_does_wrong_is_told_and_harms_nobody(installed_package, caplog):
    reasons = {failure.entry_point: failure.reason for failure in foreign_failures()}
    assert reasons["counting_task:NOT_A_TASK"] == "it is a int; expected a TaskDefinition"
    assert "no_such_module" in reasons["no_such_module:TASK"]
    assert "is left out" in caplog.text
    assert find_task("TextGeneration") is not None


def test_a_name_that_is_taken_is_refused():
    known = {task.name: task for task in all_tasks()}
    with pytest.raises(ValueError, match="its name FillMask is taken by another task"):
        discovery._checked(find_task("FillMask"), known)


def test_every_pipeline_of_transformers_is_served():
    assert set(SUPPORTED_TASKS) <= {task.pipeline for task in all_tasks()}


def test_every_task_has_a_schema_or_routes_of_its_own():
    for task in all_tasks():
        assert task.name[0].isupper()
        assert task.summary
        assert (task.schema is not None) == (task.routes[0] == "/predict"), task.name


def test_the_names_of_the_resource_are_tasks():
    assert {str(task) for task in Task} - {"Auto"} <= {task.name for task in all_tasks()}


def test_knowing_the_tasks_imports_nothing_that_computes():
    code = (
        "import sys; from modelserver_runtime.tasks import all_tasks; all_tasks();"
        "print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_task_that_nobody_knows_is_a_wrong_setting(causal_directory):
    with pytest.raises(InvalidConfiguration, match="The task is Telepathy, and there is none"):
        identify(causal_directory, "Telepathy")


def test_a_loader_that_cannot_be_imported_is_said(embedder_directory, monkeypatch):
    task = find_task("FeatureExtraction")
    broken = type(task)(**{**vars(task), "loader": "no_such_module:load"})
    monkeypatch.setitem(discovery._found().tasks, "FeatureExtraction", broken)
    with pytest.raises(UnsupportedModel, match="FeatureExtraction cannot be imported: No module"):
        load(settings_for(embedder_directory, task="FeatureExtraction"), Progress())


def test_discover_lists_tasks_with_what_they_accept(capsys):
    assert run(["discover"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["TASK", "TAKES", "PARAMETERS", "ROUTES", "WHAT", "FOR"]
    assert len(lines) == len(all_tasks()) + 1
    [line] = [line for line in lines if line.startswith("ZeroShotObjectDetection")]
    assert "image, text" in line
    assert "candidate_labels, threshold, top_k" in line
    assert run(["discover", "--output", "json"]) == 0
    tasks = {task["name"]: task for task in json.loads(capsys.readouterr().out)["tasks"]}
    assert tasks["QuestionAnswering"]["inputs"]["required"] == ["question", "context"]
    assert tasks["TextGeneration"]["routes"][0] == "/v1/chat/completions"


def test_hardware_is_listed_for_people_and_programs(capsys):
    assert run(["hardware"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["DEVICE", "USABLE", "WHAT", "MEMORY", "DETAILS"]
    assert any(line.startswith("qnn ") and " no " in line for line in lines)
    assert run(["hardware", "--output", "json"]) == 0
    devices = json.loads(capsys.readouterr().out)["devices"]
    assert {"name": "cpu", "is_usable": True}.items() <= devices[-1].items()


def test_a_wrong_format_is_a_wrong_setting(capsys):
    assert run(["hardware", "--output", "xml"]) == 2
    assert "--output" in capsys.readouterr().err
