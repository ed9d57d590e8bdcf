"""A program is ended only if it is the one that was started."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from devcluster import ports, process
from devcluster.errors import NotReadyError
from devcluster.paths import ClusterFolder


@pytest.fixture
def folder(short_path):
    folder = ClusterFolder(short_path / "cluster")
    for path in (folder.logs, folder.processes):
        path.mkdir(parents=True)
    yield folder
    process.stop(folder, ["sleeper"])


@pytest.mark.parametrize(
    ("name", "state"),
    [("etcd", "S"), ("a b", "R"), ("evil) S 1 (", "Z"), (")", "D")],
)
def test_stat_is_read_whatever_the_program_is_called(name, state):
    numbers = " ".join(str(number) for number in range(4, 53))
    line = f"42 ({name}) {state} {numbers}"
    assert process.parse_stat(line) == (42, 22, state)


def test_a_started_program_is_recorded_with_its_identity(folder):
    assert process.start(folder, "sleeper", ["sleep", "60"])
    identity = process.running(folder, "sleeper")
    assert identity == process.identity_of(identity.pid)
    deadline = time.monotonic() + 10  # the launcher has written the record and now becomes it
    while Path(f"/proc/{identity.pid}/cmdline").read_bytes() != b"sleep\x0060\x00":
        assert time.monotonic() < deadline
    assert process.running(folder, "sleeper") == identity


def test_a_program_that_runs_is_not_started_twice(folder):
    process.start(folder, "sleeper", ["sleep", "60"])
    before = process.running(folder, "sleeper")
    assert not process.start(folder, "sleeper", ["sleep", "60"])
    assert process.running(folder, "sleeper") == before


# The first thread ends, and the process is a zombie; another thread holds the port for a while.
LINGERING = """
import ctypes, os, socket, threading, time
held = socket.create_server(("127.0.0.1", 0))
def linger():
    while open("/proc/self/stat").read().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    open("port", "w").write(str(held.getsockname()[1]))
    time.sleep(0.5)
    os._exit(0)
threading.Thread(target=linger).start()
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_program_that_is_dying_is_waited_for_until_its_port_is_free(folder):
    process.start(folder, "sleeper", [sys.executable, "-c", LINGERING])
    port, deadline = folder.root / "port", time.monotonic() + 10
    while not (port.exists() and port.read_text()):
        assert time.monotonic() < deadline
    assert process.running(folder, "sleeper") is None
    assert ports.is_free(int(port.read_text()), "127.0.0.1")


def test_a_killed_program_is_started_again(folder):
    process.start(folder, "sleeper", ["sleep", "60"])
    before = process.running(folder, "sleeper")
    process.kill_all([before])
    assert process.running(folder, "sleeper") is None
    assert process.start(folder, "sleeper", ["sleep", "60"])
    assert process.running(folder, "sleeper") != before


def test_the_next_owner_of_a_pid_is_not_signalled(folder):
    with subprocess.Popen(["sleep", "60"]) as stranger:
        real = process.identity_of(stranger.pid)
        earlier = process.Identity(
            pid=real.pid, start_ticks=real.start_ticks - 1, boot_id=real.boot_id
        )
        assert not process.send(earlier, signal.SIGKILL)
        process.kill_all([earlier])
        assert stranger.poll() is None
        stranger.kill()


def test_a_process_of_an_earlier_boot_is_not_alive():
    now = process.identity_of(os.getpid())
    earlier = process.Identity(pid=now.pid, start_ticks=now.start_ticks, boot_id="earlier")
    assert process.is_alive(now)
    assert not process.is_alive(earlier)


def test_a_program_that_ignores_sigterm_is_killed(folder):
    process.start(folder, "sleeper", ["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"])
    identity = process.running(folder, "sleeper")
    process.stop_all([identity], grace_seconds=0.2)
    assert not process.is_alive(identity)


@pytest.mark.parametrize("content", ["", "garbage", "boot\n1 (x) S", "boot\nx (y) S 1 2 3\n"])
def test_a_damaged_record_counts_as_not_running(folder, content):
    folder.process("sleeper").write_text(content)
    assert process.recorded(folder.process("sleeper")) is None


def test_a_program_that_cannot_be_executed_leaves_its_words_in_the_log(folder):
    process.start(folder, "sleeper", ["/nonexistent/program"])
    deadline = time.monotonic() + 10
    while process.running(folder, "sleeper") is not None:
        assert time.monotonic() < deadline
    assert "nonexistent" in process.last_lines(folder, "sleeper")


def test_a_record_that_cannot_be_written_is_an_error(folder):
    folder.processes.rmdir()
    with pytest.raises(NotReadyError, match="sleeper could not be started"):
        process.start(folder, "sleeper", ["sleep", "60"])
    folder.processes.mkdir()
