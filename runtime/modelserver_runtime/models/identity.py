"""What tells one model's answers from another's, also in other processes: the key of caches."""

import hashlib
import json
from pathlib import Path

from modelserver_runtime.artifacts import read_manifest
from modelserver_runtime.backends.base import ModelDescription
from modelserver_runtime.settings import Settings


def identity_of(settings: Settings, description: ModelDescription) -> str:
    """Changes with the weights and with everything else that changes an answer to the same input.

    Replicas that have fetched the same commit agree on it.
    """
    parts = [
        *(settings.model_uri, settings.model_revision, settings.max_model_length),
        *(description.task, description.architecture, description.dtype),
        description.device.partition(":")[0],
        _contents(settings.model_directory),
    ]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


def _contents(directory: Path) -> list[tuple[str, int, str]]:
    """Path, size, and digest of what was fetched; else the time at which each file changed."""
    manifest = read_manifest(directory)
    if manifest is not None and manifest.is_complete:
        return sorted((file.path, file.size, file.digest) for file in manifest.files)
    found = [(path, path.stat()) for path in directory.glob("*") if path.is_file()]
    return sorted((path.name, stat.st_size, str(stat.st_mtime_ns)) for path, stat in found)
