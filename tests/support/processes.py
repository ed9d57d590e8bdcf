"""Starts the operator as a process: by its command line, or by forking an interpreter that has it.

Importing the operator takes more than a second of CPU. A test that starts it a hundred times forks
a process that has imported it and done nothing else; from then on both kinds are alike: a process
of its own, that can be killed, stopped and waited for.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Protocol

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["modelserver_operator.__main__", "support.processes"])
_lock = threading.Lock()


class RunningProcess(Protocol):
    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None:
        """The exit code (negative: a signal); None while it runs."""

    def wait(self, seconds: float) -> int: ...

    def send_signal(self, number: signal.Signals) -> None: ...


def start_command(
    arguments: Sequence[str], environment: Mapping[str, str], log: Path, folder: Path
) -> RunningProcess:
    """`python -m modelserver_operator ARGUMENTS`, as the image's entry point does."""
    with log.open("ab") as output:
        return _Command(
            subprocess.Popen(
                [sys.executable, "-m", "modelserver_operator", *arguments],
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        )


@dataclass(frozen=True, slots=True)
class ShiftedClock:
    """The wall clock of an operator, which its test sets; other clocks go on as they are.

    The shift is in a file, so that a process that is started later has the same.
    """

    file: Path

    def set(self, seconds: float) -> None:
        """Later than the machine's, or earlier."""
        unfinished = self.file.with_suffix(".new")
        unfinished.write_text(str(seconds))
        unfinished.replace(self.file)

    def now(self) -> datetime:
        shift = float(self.file.read_text()) if self.file.exists() else 0.0
        return datetime.now(UTC) + timedelta(seconds=shift)


def start_fork(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    folder: Path,
    *,
    clock: ShiftedClock | None = None,
) -> RunningProcess:
    arguments, environment = list(arguments), dict(environment)
    process = _FORKS.Process(
        target=_run, args=(arguments, environment, str(log), str(folder), clock), daemon=True
    )
    with _nameless_main():
        process.start()
    return _Fork(process)


@contextmanager
def _nameless_main() -> Iterator[None]:
    """A forked process imports the main module of its parent, unless there is none to import."""
    with _lock:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


def _run(
    arguments: list[str],
    environment: dict[str, str],
    log: str,
    folder: str,
    clock: ShiftedClock | None,
) -> None:
    """In the forked process."""
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    from modelserver_operator import __main__ as operator  # noqa: PLC0415  imported before the fork

    if clock is not None:
        operator._now = clock.now  # the one place where the operator asks for the time
    sys.exit(operator.main(arguments))


class _Command:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid

    def poll(self) -> int | None:
        return self._process.poll()

    def wait(self, seconds: float) -> int:
        return self._process.wait(seconds)

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)


class _Fork:
    def __init__(self, process: multiprocessing.context.ForkServerProcess) -> None:
        assert process.pid is not None
        self._process = process
        self._lock = threading.Lock()  # the exit code comes once, by a pipe
        self.pid = process.pid

    def poll(self) -> int | None:
        with self._lock:
            return self._process.exitcode

    def wait(self, seconds: float) -> int:
        with self._lock:
            self._process.join(seconds)
            code = self._process.exitcode
        assert code is not None, f"process {self.pid} has not ended within {seconds} s"
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)
