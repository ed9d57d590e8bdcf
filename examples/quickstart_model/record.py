"""Remembers from which inputs a model was made, so that it is not made twice."""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

_NAME = "training.json"
_LIBRARIES = ("torch", "transformers", "tokenizers")


def inputs_digest(options: Mapping[str, Any]) -> str:
    """Of these scripts, the options, and the libraries that train."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    versions = {name: version(name) for name in _LIBRARIES}
    digest.update(json.dumps([dict(options), versions], sort_keys=True).encode())
    return digest.hexdigest()


def is_made_from(directory: Path, inputs: str) -> bool:
    try:
        record = json.loads((directory / _NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and record.get("inputs") == inputs


def forget(directory: Path) -> None:
    (directory / _NAME).unlink(missing_ok=True)


def write_record(directory: Path, inputs: str, figures: Mapping[str, Any]) -> None:
    """Comes last: a directory without a record is not finished."""
    record = {"inputs": inputs, **figures}
    (directory / _NAME).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
