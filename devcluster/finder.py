"""Finds each program: cache, PATH, official release, or a build through Go modules."""

import hashlib
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devcluster import builder, catalog, download
from devcluster.catalog import Family, Program
from devcluster.console import say, step
from devcluster.errors import ProgramUnavailableError
from devcluster.lock import locked
from devcluster.paths import PROGRAMS, cache_root

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One way to get a program into `target`; returns whether it did."""

    name: str
    obtain: Callable[[Family, Program, Path], bool]


def architecture() -> str:
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        known = ", ".join(sorted(_ARCHITECTURES))
        raise ProgramUnavailableError(f"this machine is {machine}; the cluster runs on {known}")
    return _ARCHITECTURES[machine]


def family_key(family: Family, folder: Path, arch: str) -> str:
    """What a cached program depends on: pinned modules, our own sources, flags, architecture."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update(repr((family.ldflags, family.tags, family.cgo, arch)).encode())
    return digest.hexdigest()[:16]


def family_folder(family: Family) -> Path:
    key = family_key(family, PROGRAMS / family.name, architecture())
    return cache_root() / "programs" / f"{family.name}-{family.version}-{key}"


def cached_program(name: str) -> Path:
    return family_folder(catalog.family_of(name)) / name


def is_right_version(output: str, version: str) -> bool:
    """Whether `output` names this version as a whole, and not 1.36.30 for 1.36.3."""
    return (
        re.search(rf"(?<![\d.]){re.escape(version.removeprefix('v'))}(?![\d.])", output) is not None
    )


def find_programs(names: Sequence[str]) -> dict[str, Path]:
    """Return the path of each program; what is missing is fetched or built first."""
    missing = [name for name in names if not cached_program(name).exists()]
    for position, name in enumerate(missing, start=1):
        with _locked(cached_program(name)):
            _obtain(name, f"{position} of {len(missing)}")
    return {name: cached_program(name) for name in names}


def _obtain(name: str, position: str) -> None:
    target = cached_program(name)
    if target.exists():  # another command was faster
        return
    family, program = catalog.family_of(name), catalog.program_named(name)
    for source in _sources(position):
        if source.obtain(family, program, target):
            say(f"✓ {name} {family.version} {source.name}")
            return
    raise ProgramUnavailableError(
        f"{name} {family.version} is not in {target.parent}, not on PATH in that version, cannot "
        "be downloaded and cannot be built; see the lines above"
    )


def _sources(position: str) -> tuple[Source, ...]:
    def build(family: Family, program: Program, target: Path) -> bool:
        with step(f"compiling {program.name} {family.version} (program {position})"):
            builder.build(family, program, target)
        return True

    def fetch(family: Family, program: Program, target: Path) -> bool:
        return download.fetch(family, program, target, architecture())

    return (
        Source(name="found on this machine", obtain=_link_installed),
        Source(name="downloaded from its official release", obtain=fetch),
        Source(name="compiled", obtain=build),
    )


def _link_installed(family: Family, program: Program, target: Path) -> bool:
    if family.release is None:
        return False
    for path in _installed(family, program.name):
        if is_right_version(_version_output(path, program), family.version):
            target.symlink_to(path)
            return True
    return False


def _installed(family: Family, name: str) -> Iterator[Path]:
    on_path = shutil.which(name)
    if on_path is not None and not family.folders:
        yield Path(on_path).resolve()
    yield from (path for folder in family.folders if (path := Path(folder) / name).exists())


def _version_output(path: Path, program: Program) -> str:
    try:
        result = subprocess.run(
            [path, *program.version_arguments],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (result.stdout + result.stderr).decode(errors="replace")


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """One command at a time makes a program; the kernel frees the lock if that command dies."""
    with locked(target.parent):
        if target.is_symlink() and not target.exists():
            target.unlink()  # what it pointed to was uninstalled
        yield
