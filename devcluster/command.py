"""Runs a program to its end and turns a failure into an error that shows what it said."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from devcluster.console import say, step
from devcluster.errors import CommandError, MissingToolError

_SHOWN_LINES = 20


def run(
    argv: Sequence[str | Path],
    *,
    stdin: str | bytes | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    timeout_seconds: float | None = None,
) -> str:
    """Return what the program wrote to standard output."""
    result = _run(argv, stdin, environment, folder, timeout_seconds)
    if result.returncode:
        raise CommandError(_failure(argv, result))
    return result.stdout.decode(errors="replace")


def succeeds(
    argv: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    timeout_seconds: float | None = None,
) -> bool:
    return _run(argv, None, environment, None, timeout_seconds).returncode == 0


def _run(
    argv: Sequence[str | Path],
    stdin: str | bytes | None,
    environment: Mapping[str, str] | None,
    folder: Path | None,
    timeout_seconds: float | None,
) -> subprocess.CompletedProcess[bytes]:
    data = stdin.encode() if isinstance(stdin, str) else stdin
    try:
        return subprocess.run(
            [str(argument) for argument in argv],
            input=data if data is not None else b"",
            capture_output=True,
            env={**os.environ, **(environment or {})},
            cwd=folder,
            timeout=timeout_seconds,
            check=False,
        )
    except FileNotFoundError as e:
        raise MissingToolError(f"{argv[0]} is not installed; install it and run again") from e
    except subprocess.TimeoutExpired as e:
        raise CommandError(f"{_shown(argv)} did not end within {timeout_seconds:.0f} s") from e


def _failure(argv: Sequence[str | Path], result: subprocess.CompletedProcess[bytes]) -> str:
    output = (result.stderr + result.stdout).decode(errors="replace").strip().splitlines()
    shown = "\n".join(f"    {line}" for line in output[-_SHOWN_LINES:])
    return f"{_shown(argv)} ended with status {result.returncode}:\n{shown}"


def _shown(argv: Sequence[str | Path]) -> str:
    return " ".join(str(argument) for argument in argv[:8]) + (" …" if len(argv) > 8 else "")  # noqa: PLR2004


def need_tools(tools: Mapping[str, str], *, purpose: str) -> None:
    """Make sure that each tool is on PATH; `tools` maps it to the Debian package that has it."""
    missing = {tool: package for tool, package in tools.items() if shutil.which(tool) is None}
    if missing:
        install_debian_packages(sorted(set(missing.values())), purpose=purpose)


def install_debian_packages(packages: Sequence[str], *, purpose: str) -> None:
    """Install what dpkg does not know yet, as root on Debian or Ubuntu, and say so."""
    missing = [package for package in packages if not _is_installed(package)]
    if not missing:
        return
    wanted = " ".join(missing)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise MissingToolError(
            f"{purpose} needs {wanted} (names of Debian packages), which are not installed; "
            "install them with the system's package manager, or run as root on Debian or Ubuntu"
        )
    say(f"Installing with apt-get, because {purpose} needs them: {wanted}")
    with step(f"apt-get install {wanted}"):
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-q"], environment=quiet)
        run(
            ["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing],
            environment=quiet,
        )


def _is_installed(package: str) -> bool:
    if shutil.which("dpkg-query") is None:
        return False
    argv = ["dpkg-query", "-W", "-f", "${Status}", package]
    result = _run(argv, None, None, None, None)
    return result.returncode == 0 and b"ok installed" in result.stdout
