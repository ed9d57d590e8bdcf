"""Compiles a program from the committed go.mod of its family."""

import os
import re
import shutil
from pathlib import Path

from devcluster.catalog import Family, Program
from devcluster.command import install_debian_packages, run
from devcluster.errors import MissingToolError
from devcluster.paths import PROGRAMS


def build(family: Family, program: Program, target: Path) -> None:
    """Write the program to `target` in one step, so that an interrupted build leaves nothing."""
    folder = PROGRAMS / family.name
    _need_go(folder)
    if family.debian_packages and not _can_compile_with_seccomp():
        install_debian_packages(family.debian_packages, purpose=f"compiling {program.name}")
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        run(
            build_command(family, program, unfinished),
            environment=_environment(family),
            folder=folder,
        )
        unfinished.rename(target)
    finally:
        unfinished.unlink(missing_ok=True)


def build_command(family: Family, program: Program, output: Path) -> list[str | Path]:
    tags: list[str | Path] = ["-tags", family.tags] if family.tags else []
    flags: list[str | Path] = ["-trimpath", "-buildvcs=false", "-ldflags", family.ldflags, *tags]
    return ["go", "build", *flags, "-o", output, program.package]


def _environment(family: Family) -> dict[str, str]:
    return {"CGO_ENABLED": "1" if family.cgo else "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}


def _can_compile_with_seccomp() -> bool:
    """Whether headers are there without dpkg's knowledge, as on other distributions."""
    found = shutil.which("pkg-config") is not None and shutil.which("gcc") is not None
    return found and any(
        Path(folder, "seccomp.h").exists() for folder in ("/usr/include", "/usr/local/include")
    )


def _need_go(folder: Path) -> None:
    needed = required_go(folder / "go.mod")
    if shutil.which("go") is None:
        raise MissingToolError(
            "Go is not installed, and the program's official release cannot be reached from here; "
            f"install Go {needed} or newer (https://go.dev/dl), or put the program on PATH"
        )
    found = run(["go", "env", "GOVERSION", "GOTOOLCHAIN"], folder=folder.parent).split()
    if found[-1:] == ["local"] and _numbers(found[0]) < _numbers(needed):
        raise MissingToolError(
            f"{found[0]} is installed, but {folder.name} needs Go {needed} or newer; install it, "
            "or let Go fetch it itself with `go env -w GOTOOLCHAIN=auto`"
        )


def required_go(go_mod: Path) -> str:
    line = re.search(r"^go (\S+)$", go_mod.read_text(), re.MULTILINE)
    if line is None:
        raise ValueError(f"{go_mod} has no line `go VERSION`")
    return line.group(1)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
