"""Judges a model's directory before anything is loaded from it, however its files came there."""

import json
from collections.abc import Sequence
from pathlib import Path

from modelserver_runtime.artifacts.manifest import FOLDER, is_intact, read_manifest
from modelserver_runtime.artifacts.safetensors_header import UnreadableHeader, expected_size
from modelserver_runtime.artifacts.selection import CONFIG, PICKLES, SAFETENSORS, refused_pickle
from modelserver_runtime.artifacts.source import ArtifactPolicy, ArtifactSummary
from modelserver_runtime.errors import ArtifactCorrupt, ArtifactNotFound, UnsupportedModel

_INDEX = "model.safetensors.index.json"
_POINTER = b"version https://git-lfs.github.com/spec/"
_NAMES_SHOWN = 5
_AGAIN = "Copy or fetch the model again."


def check_directory(directory: Path, *, policy: ArtifactPolicy) -> ArtifactSummary:
    """Raises if the directory holds no model that may be loaded; else says how large it is."""
    _require_files(directory)
    _require_config(directory)
    weights = _weights(directory, policy)
    for path in weights:
        _require_contents(path)
        if path.suffix == SAFETENSORS:
            _require_whole(path)
    _require_shards(directory)
    return _summary(directory)


def _require_files(directory: Path) -> None:
    if not directory.is_dir():
        raise ArtifactNotFound(
            f"The model directory {directory} does not exist",
            hint="Check the path of spec.model.uri, and that the claim holds it.",
        )
    if not any(directory.iterdir()):
        raise ArtifactNotFound(
            f"The model directory {directory} is empty",
            hint="Copy the model there, or check the path of spec.model.uri.",
        )


def _require_config(directory: Path) -> None:
    path = directory / CONFIG
    if not path.is_file():
        raise ArtifactNotFound(
            f"The model directory {directory} has no {CONFIG}; it has {_names(directory)}",
            hint=f"spec.model.uri must name the folder in which {CONFIG} is.",
        )
    _require_contents(path)
    if not isinstance(_json(path), dict):
        raise ArtifactCorrupt(f"{path} holds no JSON object", hint=_AGAIN)


def _names(directory: Path) -> str:
    names = sorted(path.name for path in directory.iterdir())
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more


def _weights(directory: Path, policy: ArtifactPolicy) -> Sequence[Path]:
    safe = sorted(directory.glob(f"*{SAFETENSORS}"))
    if safe:
        return safe
    pickles = sorted(path for path in directory.iterdir() if path.suffix in PICKLES)
    if not pickles:
        raise UnsupportedModel(
            f"The model directory {directory} has no *{SAFETENSORS} weights; "
            f"it has {_names(directory)}",
            hint="Put the weights beside config.json in the format of safetensors.",
        )
    if not policy.allow_pickle:
        raise refused_pickle(str(directory), pickles[0].name)
    return pickles


def _require_contents(path: Path) -> None:
    with path.open("rb") as stream:
        start = stream.read(len(_POINTER))
    if start == _POINTER:
        raise ArtifactCorrupt(
            f"{path} is a Git LFS pointer, not the file itself",
            hint="Run `git lfs pull` in the clone, then copy the files again.",
        )
    if not start:
        raise ArtifactCorrupt(f"{path} is empty", hint=_AGAIN)


def _require_whole(path: Path) -> None:
    try:
        expected = expected_size(path)
    except UnreadableHeader as error:
        raise ArtifactCorrupt(
            f"{path} is truncated or no safetensors file: {error}", hint=_AGAIN
        ) from error
    size = path.stat().st_size
    if size != expected:
        raise ArtifactCorrupt(
            f"{path} is truncated or damaged: its header says {expected} bytes, and it has {size}",
            hint=_AGAIN,
        )


def _require_shards(directory: Path) -> None:
    """Every file that the index of a model in several files names must be there."""
    index = directory / _INDEX
    if not index.is_file():
        return
    content = _json(index)
    shards = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shards, dict):
        raise ArtifactCorrupt(f"{index} has no weight_map", hint=_AGAIN)
    missing = sorted(
        {str(name) for name in shards.values() if not (directory / str(name)).is_file()}
    )
    if missing:
        raise ArtifactCorrupt(
            f"{index} names {len(missing)} files that are not there, first {missing[0]}",
            hint=_AGAIN,
        )


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ArtifactCorrupt(f"{path} is not JSON: {error}", hint=_AGAIN) from error


def _summary(directory: Path) -> ArtifactSummary:
    """Of what is fetched the record knows the commit; other files have none."""
    if (manifest := read_manifest(directory)) and is_intact(directory, manifest):
        return manifest.summary
    sizes = [
        path.stat().st_size
        for path in directory.rglob("*")
        if path.is_file() and FOLDER not in path.parts
    ]
    return ArtifactSummary(revision="", size_bytes=sum(sizes), files=len(sizes))
