"""Environments of peers that share nothing with the project: one for each lock file, on demand."""

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

from bench.results_file import REPOSITORY
from bench.serving.model_folder import cache_folder, is_complete, mark_complete


def environment(name: str) -> Path:
    """A folder with bin/python and the packages of requirements/NAME.lock; made once."""
    lock = lock_file(name)
    content = hashlib.sha256(sys.version.encode() + lock.read_bytes()).hexdigest()
    folder = cache_folder() / f"{name}-{content[:8]}"
    if not is_complete(folder):
        venv.EnvBuilder(with_pip=True, clear=True).create(folder)
        _install(folder, lock)
        mark_complete(folder)
    return folder


def locked_version(name: str, distribution: str) -> str:
    """What the lock file pins."""
    lines = lock_file(name).read_text().splitlines()
    pinned = (line.rstrip(" \\").split("==", 1) for line in lines if "==" in line)
    return dict(pinned)[distribution]


def lock_file(name: str) -> Path:
    return REPOSITORY / "requirements" / f"{name}.lock"


def _install(folder: Path, lock: Path) -> None:
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "install", "--require-hashes", "-r", str(lock)], check=True)
