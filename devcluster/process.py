"""Starts long-running programs and ends exactly those: a pid alone proves nothing.

A program is known by its pid, the tick at which it started and the boot of the machine. The
launcher writes these to disk before it becomes the program, so that even a tool killed in
between leaves no program that nobody knows of.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from devcluster.errors import NotReadyError
from devcluster.paths import ClusterFolder

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_START_FIELD = 19  # field 22 of proc(5)'s stat, counted after the name in parentheses
_POLL_SECONDS = 0.05
_GRACE_SECONDS = 10.0
# $0 is the record; what it holds: the boot's id, then the launcher's own line of /proc/PID/stat,
# whose pid and start time stay when the launcher becomes the program.
_LAUNCHER = (
    'read -r boot < /proc/sys/kernel/random/boot_id && read -r stat < "/proc/$$/stat" && '
    'printf "%s\\n%s\\n" "$boot" "$stat" > "$0.new" && mv "$0.new" "$0" && exec "$@"'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One process, and no later one that got its pid."""

    pid: int
    start_ticks: int
    boot_id: str


def parse_stat(line: str) -> tuple[int, int, str]:
    """Return pid, start time in ticks, and state letter; the name may hold spaces and ')'."""
    pid, _, rest = line.partition(" (")
    fields = rest.rpartition(") ")[2].split()
    return int(pid), int(fields[_START_FIELD]), fields[0]


def identity_of(pid: int) -> Identity | None:
    """The process that has this pid now; None when there is none or it is a zombie."""
    try:
        _, start_ticks, state = parse_stat(Path(f"/proc/{pid}/stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None
    if state in "ZX":
        return None
    return Identity(pid=pid, start_ticks=start_ticks, boot_id=boot_id())


def boot_id() -> str:
    return _BOOT_ID.read_text().strip()


def recorded(record: Path) -> Identity | None:
    """What a record says, running or not; a record that cannot be read counts as none."""
    try:
        boot, stat = record.read_text().splitlines()
        pid, start_ticks, _ = parse_stat(stat)
    except (FileNotFoundError, ValueError, IndexError):
        return None
    return Identity(pid=pid, start_ticks=start_ticks, boot_id=boot)


def is_alive(identity: Identity | None) -> bool:
    return identity is not None and identity_of(identity.pid) == identity


def running(folder: ClusterFolder, program: str) -> Identity | None:
    """The program, if it runs; one that was killed is waited for until it has let go of its ports.

    Its first thread may be gone, which makes it a zombie, while other threads still hold them.
    """
    identity = recorded(folder.process(program))
    if is_alive(identity):
        return identity
    if identity is not None:
        _wait_for_last_thread(identity)
    return None


def _wait_for_last_thread(identity: Identity) -> None:
    threads = Path(f"/proc/{identity.pid}/task")
    deadline = time.monotonic() + _GRACE_SECONDS
    while _threads_besides_the_first(threads) and time.monotonic() < deadline:
        if is_another(identity):
            return
        time.sleep(_POLL_SECONDS / 10)


def _threads_besides_the_first(threads: Path) -> bool:
    try:
        return sum(1 for _ in threads.iterdir()) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False


def is_another(identity: Identity) -> bool:
    """Whether a later process has got the pid."""
    now = identity_of(identity.pid)
    return now is not None and now != identity


def start(
    folder: ClusterFolder,
    program: str,
    argv: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
) -> bool:
    """Start the program unless it runs; return whether it had to be started."""
    if running(folder, program) is not None:
        return False
    folder.process(program).unlink(missing_ok=True)
    with folder.log(program).open("ab") as log:
        child = subprocess.Popen(
            ["/bin/sh", "-c", _LAUNCHER, str(folder.process(program)), *map(str, argv)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder.root,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    _wait_for_record(folder, program, child)
    return True


def _wait_for_record(folder: ClusterFolder, program: str, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _GRACE_SECONDS
    while recorded(folder.process(program)) is None:
        if child.poll() is not None or time.monotonic() > deadline:
            raise NotReadyError(f"{program} could not be started:\n{last_lines(folder, program)}")
        time.sleep(_POLL_SECONDS / 10)
    child.returncode = 0  # it outlives this command: subprocess must not warn about that


def signal_program(folder: ClusterFolder, program: str, number: signal.Signals) -> bool:
    identity = running(folder, program)
    return identity is not None and send(identity, number)


def send(identity: Identity, number: signal.Signals) -> bool:
    """Signal this very process: the pidfd is opened first, then the identity is compared."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return False
    try:
        if not is_alive(identity):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def stop(folder: ClusterFolder, programs: Iterable[str]) -> None:
    """Ask all of them to end, then kill those that did not within the grace period."""
    identities = [recorded(folder.process(program)) for program in programs]
    stop_all([identity for identity in identities if identity is not None])
    for program in programs:
        folder.process(program).unlink(missing_ok=True)


def stop_all(identities: Sequence[Identity], *, grace_seconds: float = _GRACE_SECONDS) -> None:
    for identity in identities:
        send(identity, signal.SIGTERM)
    if not _all_ended(identities, grace_seconds):
        kill_all(identities)


def kill_all(identities: Sequence[Identity]) -> None:
    for identity in identities:
        send(identity, signal.SIGKILL)
    if not _all_ended(identities, _GRACE_SECONDS):
        stuck = ", ".join(str(identity.pid) for identity in identities if is_alive(identity))
        raise NotReadyError(
            f"the processes {stuck} were killed, but still run after {_GRACE_SECONDS:.0f} s"
        )


def _all_ended(identities: Sequence[Identity], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while any(is_alive(identity) for identity in identities):
        if time.monotonic() > deadline:
            return False
        _reap()
        time.sleep(_POLL_SECONDS)
    return True


def _reap() -> None:
    """Take the exit status of programs that this very command started."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def last_lines(folder: ClusterFolder, program: str, count: int = 15) -> str:
    """The end of a program's log, indented, for an error message."""
    try:
        lines = folder.log(program).read_text(errors="replace").splitlines()[-count:]
    except FileNotFoundError:
        return "    (no log)"
    return "\n".join(f"    {line[:300]}" for line in lines) or "    (the log is empty)"
