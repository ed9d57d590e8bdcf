"""The Python environment of `transformers serve`: the project's packages and the few it lacks."""

import hashlib
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from bench.results_file import REPOSITORY
from bench.serving.model_folder import cache_folder, is_complete, mark_complete

LOCK = REPOSITORY / "requirements" / "peers.lock"


def peer_environment() -> Path:
    """A folder with bin/python; made at the first call, and anew when the lock file changes.

    It sees the packages of this very interpreter through a .pth file, so that every engine of a
    comparison runs the same torch and transformers; nothing is added to the project's own.
    """
    packages = sysconfig.get_path("purelib")
    content = hashlib.sha256(f"{packages} {sys.version}".encode() + LOCK.read_bytes()).hexdigest()
    folder = cache_folder() / f"peers-{content[:8]}"
    if not is_complete(folder):
        venv.EnvBuilder(with_pip=True, clear=True).create(folder)
        site_packages = next(folder.glob("lib/python*/site-packages"))
        (site_packages / "shared.pth").write_text(packages + "\n")
        _install(folder)
        mark_complete(folder)
    return folder


def _install(folder: Path) -> None:
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "install", "--no-deps", "--require-hashes", "-r", str(LOCK)], check=True)


def peer_versions() -> dict[str, str]:
    """What the lock file pins: name → version."""
    lines = (line for line in LOCK.read_text().splitlines() if "==" in line)
    return dict(line.rstrip(" \\").split("==", 1) for line in lines)
