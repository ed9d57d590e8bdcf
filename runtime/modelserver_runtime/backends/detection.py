"""Reads from a model's files what it can be served for; loads no weights."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelserver_runtime.backends.families import SERVED, family_of
from modelserver_runtime.errors import ArtifactCorrupt, InvalidConfiguration, UnsupportedModel
from modelserver_runtime.settings import Task
from modelserver_runtime.tasks import TaskDefinition, all_tasks, find_task

_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*\n", re.DOTALL)
_PIPELINE_TAG = re.compile(r"^pipeline_tag:\s*['\"]?([\w-]+)", re.MULTILINE)

# Tags of the hub that are no pipeline of transformers, or mean another task than it.
_TAGS: Mapping[str, str] = {
    "conversational": Task.TEXT_GENERATION,
    "sentence-similarity": Task.EMBEDDINGS,
    "feature-extraction": Task.EMBEDDINGS,
    "summarization": Task.SUMMARIZATION,
    "translation": Task.TRANSLATION,
    "text2text-generation": Task.TEXT_TO_TEXT_GENERATION,
    "text-to-speech": "TextToAudio",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    architecture: str
    task: str


def identify(directory: Path, wanted: str) -> Identity:
    """The task to serve; raises UnsupportedModel if the model is not made for what is wanted."""
    _require_known(wanted)
    config = _read_config(directory)
    architecture = _architecture(config)
    possible = _possible_tasks(architecture, config)
    if wanted == Task.AUTO:
        return Identity(architecture=architecture, task=_likely_task(directory, possible))
    if wanted not in possible:
        raise UnsupportedModel(
            f"The model is a {architecture} and cannot be served for {wanted}",
            hint=f"Set the task to {_listed(possible)}, or to Auto.",
        )
    return Identity(architecture=architecture, task=wanted)


def _require_known(wanted: str) -> None:
    if wanted != Task.AUTO and find_task(wanted) is None:
        names = sorted(task.name for task in all_tasks())
        raise InvalidConfiguration(
            f"The task is {wanted}, and there is none of this name",
            hint=f"Set it to Auto, or to {_listed(names)}.",
        )


def _read_config(directory: Path) -> dict[str, Any]:
    path = directory / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ArtifactCorrupt(
            f"{path} cannot be read: {error}", hint="Copy or fetch the model again."
        ) from error
    return dict(config)


def _architecture(config: Mapping[str, Any]) -> str:
    names = config.get("architectures") or []
    if not names:
        raise UnsupportedModel(
            "The model's config.json names no architecture",
            hint='Add for example "architectures": ["LlamaForCausalLM"] to it.',
        )
    return str(names[0])


def _possible_tasks(architecture: str, config: Mapping[str, Any]) -> Sequence[str]:
    """The usual one first; those of installed packages before what the server itself would do."""
    reads_images = "vision_config" in config
    family = family_of(architecture, str(config.get("model_type", "")), reads_images=reads_images)
    foreign = [task.name for task in all_tasks() if _is_made_for(task, architecture)]
    possible = [*foreign, *(family.value if family else ())]
    if not possible:
        raise UnsupportedModel(
            f"The architecture {architecture} cannot be served", hint=f"Served are {SERVED}."
        )
    return possible


def _is_made_for(task: TaskDefinition, architecture: str) -> bool:
    return bool(task.architectures) and architecture.endswith(task.architectures)


def _likely_task(directory: Path, possible: Sequence[str]) -> str:
    if (directory / "modules.json").is_file() and Task.EMBEDDINGS in possible:
        return Task.EMBEDDINGS
    tagged = _task_of_tag(_pipeline_tag(directory))
    return tagged if tagged in possible else possible[0]


def _task_of_tag(tag: str) -> str:
    pipelines = {task.pipeline: task.name for task in all_tasks() if task.pipeline}
    return _TAGS.get(tag) or pipelines.get(tag, "")


def _pipeline_tag(directory: Path) -> str:
    try:
        text = (directory / "README.md").read_text(errors="replace")
    except OSError:
        return ""
    front_matter = _FRONT_MATTER.match(text)
    tag = _PIPELINE_TAG.search(front_matter.group(1)) if front_matter else None
    return tag.group(1) if tag else ""


def _listed(names: Any) -> str:
    *first, last = [str(name) for name in names]
    return f"{', '.join(first)} or {last}" if first else last
