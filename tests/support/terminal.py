"""A program that believes it has a terminal, and everything that it writes there."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import threading
from contextlib import contextmanager
from dataclasses import dataclass

from support.waiting import wait_until

ROWS, COLUMNS = 60, 200


@dataclass
class Terminal:
    process: subprocess.Popen
    written: str = ""

    def read_all(self, descriptor: int) -> None:
        while content := _read(descriptor):
            self.written += content.decode(errors="replace")

    def wait_for(self, text: str, *, timeout: float) -> None:
        wait_until(
            lambda: text in self.written or self.process.poll() is not None,
            timeout=timeout,
            what=f"{text!r} on the terminal",
        )
        assert text in self.written, f"it ended without {text!r}:\n{self.written[-2000:]}"

    def interrupt(self, *, timeout: float) -> int:
        """As Ctrl-C does; returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout)


@contextmanager
def terminal(command, environment):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**environment, "TERM": "xterm-256color"}
    # What a shell started in the background ignores SIGINT, and so would all that it starts.
    hearing = ["env", "--default-signal=INT", *command]
    process = subprocess.Popen(
        hearing, stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    made = Terminal(process)
    reading = threading.Thread(target=made.read_all, args=(ours,))
    reading.start()
    try:
        yield made
    finally:
        process.kill()
        process.wait(60)
        reading.join()
        os.close(ours)


def _read(descriptor: int) -> bytes:
    """Empty at the end, which Linux tells as an error."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""
