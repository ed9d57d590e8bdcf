"""Environments of peers that share nothing with the project: one for each lock file, on demand."""

import hashlib
import shutil
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


def site_packages(folder: Path) -> Path:
    """Where the environment's packages are."""
    return next(folder.glob("lib/python*/site-packages"))


def locked_version(name: str, distribution: str) -> str:
    """What the lock file pins."""
    return locked_versions(name)[distribution]


def locked_versions(name: str) -> dict[str, str]:
    """What the lock file pins: name → version."""
    lines = (line for line in lock_file(name).read_text().splitlines() if "==" in line)
    return dict(line.rstrip(" \\").split("==", 1) for line in lines)


def lock_file(name: str) -> Path:
    return REPOSITORY / "requirements" / f"{name}.lock"


def _install(folder: Path, lock: Path) -> None:
    """The lock file alone: what it overrides would be refused if dependencies were looked at."""
    python = str(folder / "bin" / "python")
    if uv := shutil.which("uv"):
        # Its files are links to those of its cache: torch is on the disk once.
        command = [uv, "pip", "install", "--quiet", "--python", python]
    else:
        command = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    subprocess.run([*command, "--no-deps", "--require-hashes", "-r", str(lock)], check=True)
