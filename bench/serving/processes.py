"""Starts and ends the engines' processes, and reads from /proc what they and the others use."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from bench.results_file import REPOSITORY

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_GRACE_SECONDS = 5.0
# More than this makes two threads of an engine wait for a third one visibly.
QUIET_CORES = 0.3


@contextlib.asynccontextmanager
async def running(
    command: Sequence[str], *, environment: Mapping[str, str], log: Path, talks: bool = False
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process in a group of its own, which ends with the block, its children included.

    `talks`: its standard input and output are pipes; otherwise its output goes to the log.
    """
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=REPOSITORY,
            env=dict(environment),
            stdin=asyncio.subprocess.PIPE if talks else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if talks else output,
            stderr=output,
            start_new_session=True,
            limit=1 << 26,
        )
    try:
        yield process
    finally:
        await _end(process)


def pause(pid: int) -> None:
    """Stops the group of a process that `running` started; it keeps its memory and connections."""
    os.killpg(pid, signal.SIGSTOP)


def resume(pid: int) -> None:
    os.killpg(pid, signal.SIGCONT)


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        resume(process.pid)
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(process.wait()), _GRACE_SECONDS)


def cpu_seconds(pid: int) -> float:
    """What a process and its living descendants have computed so far."""
    return sum(_cpu_seconds_of_one(member) for member in _family(pid))


def peak_memory_megabytes(pid: int) -> float:
    """The sum of the largest resident sizes of a process and its living descendants."""
    return sum(_kilobytes(member, "VmHWM") for member in _family(pid)) / 1000


def resident_megabytes(pid: int) -> float:
    """The resident size of a process, without its children; 0 if it has ended."""
    return _kilobytes(pid, "VmRSS") / 1000


def machine_cpu_seconds() -> float:
    """What all processes of the machine have computed since it started, waiting excluded."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _wait, interrupts, soft_interrupts, *_ = map(int, fields)
    return (user + nice + system + interrupts + soft_interrupts) / _TICKS_PER_SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class Quietness:
    """How busy the machine is with other things: the load average, and cores used just now."""

    load_average: float
    busy_cores: float
    waited_seconds: float

    @property
    def is_quiet(self) -> bool:
        return self.busy_cores <= QUIET_CORES


async def quiet_moment(*, patience_seconds: float) -> Quietness:
    """Looks for a second while nothing is measured, and again until it is quiet or too late."""
    started = perf_counter()
    while True:
        before = machine_cpu_seconds()
        await asyncio.sleep(1)
        waited = perf_counter() - started
        seen = Quietness(
            load_average=round(os.getloadavg()[0], 2),
            busy_cores=round(machine_cpu_seconds() - before, 2),
            waited_seconds=round(waited, 1),
        )
        if seen.is_quiet or waited >= patience_seconds:
            return seen


def _family(pid: int) -> list[int]:
    members = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in path.read_text().split():
                members += _family(int(child))
    return members


def _cpu_seconds_of_one(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def _kilobytes(pid: int, field: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)
