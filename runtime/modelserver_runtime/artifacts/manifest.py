"""The record in a model's directory of what was fetched into it."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from modelserver_runtime.artifacts.source import ArtifactPolicy, ArtifactSummary

FOLDER = ".modelserver"
_NAME = "manifest.json"
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFile:
    path: str
    size: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """`is_complete` is false while the files are being fetched."""

    repository: str
    revision: str
    policy: ArtifactPolicy
    files: tuple[ManifestFile, ...]
    is_complete: bool

    @property
    def summary(self) -> ArtifactSummary:
        return ArtifactSummary(
            revision=self.revision,
            size_bytes=sum(file.size for file in self.files),
            files=len(self.files),
        )


def partial_folder(directory: Path) -> Path:
    return directory / FOLDER / "partial"


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Replaces the record in one step, so that a kill leaves the old or the new one."""
    path = directory / FOLDER / _NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    with fresh.open("w", encoding="utf-8") as stream:
        json.dump(_as_json(manifest), stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)


def read_manifest(directory: Path) -> Manifest | None:
    """The record, or None if there is none that this version can read."""
    try:
        data = json.loads((directory / FOLDER / _NAME).read_text(encoding="utf-8"))
        if data["version"] != _VERSION:
            return None
        return Manifest(
            repository=data["repository"],
            revision=data["revision"],
            policy=ArtifactPolicy(**data["policy"]),
            files=tuple(ManifestFile(**file) for file in data["files"]),
            is_complete=data["complete"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_intact(directory: Path, manifest: Manifest) -> bool:
    """Whether every file is there in its size; contents were verified when they came."""
    return manifest.is_complete and all(
        (directory / file.path).is_file() and (directory / file.path).stat().st_size == file.size
        for file in manifest.files
    )


def remove_others(directory: Path, *, former: Manifest | None, wanted: Manifest) -> None:
    """Removes files of a former fetch that the wanted one does not have.

    Files that no fetch has brought are not ours and stay.
    """
    paths = {file.path for file in wanted.files}
    for file in former.files if former else ():
        if file.path not in paths:
            (directory / file.path).unlink(missing_ok=True)


def remove_partials(directory: Path) -> None:
    shutil.rmtree(partial_folder(directory), ignore_errors=True)


def _as_json(manifest: Manifest) -> dict[str, object]:
    return {
        "version": _VERSION,
        "repository": manifest.repository,
        "revision": manifest.revision,
        "complete": manifest.is_complete,
        "policy": {
            "allow_pickle": manifest.policy.allow_pickle,
            "trust_remote_code": manifest.policy.trust_remote_code,
        },
        "files": [
            {"path": file.path, "size": file.size, "digest": file.digest} for file in manifest.files
        ],
    }
