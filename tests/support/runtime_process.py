"""The runtime as a process of its own, as it runs in a pod."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
_LISTENING = re.compile(r"Listening on (http://\S+);")


class RuntimeProcess:
    """Its output is read all the time, so that it never blocks on a full pipe."""

    def __init__(self, module: str, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": f"{ROOT / 'runtime'}:{ROOT / 'tests'}",
                **environment,
            },
        )
        self._lines: list[str] = []
        self._news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()

    @property
    def output(self) -> str:
        with self._news:
            return "".join(self._lines)

    def wait_for_line(self, text: str, seconds: float = 120) -> str:
        deadline = time.monotonic() + seconds
        with self._news:
            while True:
                for line in self._lines:
                    if text in line:
                        return line
                left = deadline - time.monotonic()
                if left <= 0 or (
                    not self._news.wait(min(left, 1)) and self.process.poll() is not None
                ):
                    raise AssertionError(f"no line with {text!r} in:\n{''.join(self._lines)}")

    @property
    def url(self) -> str:
        return _LISTENING.search(self.wait_for_line("Listening on")).group(1)

    def wait_until_ready(self) -> str:
        self.wait_for_line("Ready:")
        assert httpx.get(f"{self.url}/readyz").status_code == 200
        return self.url


@contextmanager
def runtime_process(module: str, *arguments: str, **environment: str) -> Iterator[RuntimeProcess]:
    process = RuntimeProcess(module, *arguments, **environment)
    try:
        yield process
    finally:
        process.process.kill()
        process.process.wait(30)
        process.process.stdout.close()
