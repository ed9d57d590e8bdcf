"""A real Redis on a free port, which tests kill and start again.

The only way to Redis in the tests. `redis_server` starts one for a test; it keeps what was
written to it through a kill, as a Redis with a volume does.
"""

import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster.command import need_tools
from devcluster.lock import locked
from support.waiting import wait_until

_PROGRAM = "redis-server"
_INSTALLING = Path(tempfile.gettempdir()) / "modelserver-tests-redis-server"


def _program() -> str:
    """Where Redis is; installed first where it is missing, by one test process at a time."""
    with locked(_INSTALLING):
        need_tools({_PROGRAM: _PROGRAM}, purpose="the tests of what replicas share")
    return shutil.which(_PROGRAM) or _PROGRAM


class RedisServer:
    """`url` stays the same through `kill` and `start`."""

    def __init__(self, folder: Path) -> None:
        self._program = _program()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        assert self._process is None, "it runs already"
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(self._program, "--port", str(self.port), "--bind", "127.0.0.1"),
                    *("--dir", str(self._folder), "--save", "", "--appendonly", "yes"),
                    *("--appendfsync", "always", "--daemonize", "no"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers, timeout=30, what="Redis answers", interval=0.02)

    def kill(self) -> None:
        """As when the machine is gone: no goodbye to clients."""
        self._signal(signal.SIGKILL)
        self._end()

    def freeze(self) -> None:
        """It takes connections and answers nothing; `thaw` ends that."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def forget(self) -> None:
        """Loses everything, as a Redis without a volume does that is started again."""
        self.kill()
        shutil.rmtree(self._folder / "appendonlydir", ignore_errors=True)
        self.start()

    def stop(self) -> None:
        if self._process is not None:
            self.kill()

    def _answers(self) -> bool:
        assert self._process is not None
        log = (self._folder / "redis.log").read_text(errors="replace")
        assert self._process.poll() is None, f"Redis has ended: {log[-2000:]}"
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(5) == b"+PONG"
        except OSError:
            return False

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "it does not run"
        self._process.send_signal(number)

    def _end(self) -> None:
        assert self._process is not None
        self._process.wait(30)
        self._process = None


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
