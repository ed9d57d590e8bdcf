"""Where the benchmark keeps what it makes: below the user's cache folder."""

import os
from pathlib import Path

SEED = 20261121
_COMPLETE = "complete"


def cache_folder() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "modelserver-bench"


def model_folder() -> Path:
    """Named by what decides the weights: a new seed or shape must get a new name."""
    return cache_folder() / f"llama-125m-{SEED}"


def is_complete(folder: Path) -> bool:
    return (folder / _COMPLETE).exists()


def mark_complete(folder: Path) -> None:
    """The last file that is written: an interrupted run leaves nothing that looks finished."""
    (folder / _COMPLETE).touch()
