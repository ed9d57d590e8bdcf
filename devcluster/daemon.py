"""Programs of a cluster that run until it is taken down, and how to see that each is ready."""

import http.client
import json
import ssl
import time
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from devcluster import process
from devcluster.console import say, step
from devcluster.errors import NotReadyError
from devcluster.paths import ClusterFolder

_POLL_SECONDS = 0.05
_ANSWER_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """`problem` says why the program is not ready yet, or nothing when it is."""

    program: str
    argv: Sequence[str | Path]
    problem: Callable[[], str]
    ready_seconds: float = 60.0
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpProbe:
    """Ready when GET answers 200."""

    address: str
    ca: Path | None = None
    token: str = ""

    def __call__(self) -> str:
        try:
            status, body = get(self.address, ca=self.ca, token=self.token)
        except (OSError, http.client.HTTPException) as e:
            return f"{self.address}: {e}"
        return "" if status == http.HTTPStatus.OK else f"{self.address}: {status} {body[-300:]!r}"


def get(address: str, *, ca: Path | None = None, token: str = "") -> tuple[int, bytes]:
    """GET without proxies; without `ca` the server is not verified (loopback health only)."""
    parts = urllib.parse.urlsplit(address)
    connection = _connection(parts.scheme, parts.netloc, ca)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        connection.request("GET", f"{parts.path}?{parts.query}", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _connection(scheme: str, host: str, ca: Path | None) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(host, timeout=_ANSWER_SECONDS)
    context = ssl.create_default_context(cafile=str(ca) if ca else None)
    if ca is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, timeout=_ANSWER_SECONDS, context=context)


def start(title: str, folder: ClusterFolder, daemons: Sequence[Daemon]) -> None:
    """Start what must be started, and wait until all are ready."""
    started = ensure_running(folder, daemons)
    if not started:
        wait_until_ready(folder, daemons)
        return
    with step(f"starting the {title}: {', '.join(started)}"):
        wait_until_ready(folder, daemons)


def ensure_running(folder: ClusterFolder, daemons: Sequence[Daemon]) -> list[str]:
    """Start what does not run or runs with other arguments; return the names of those."""
    return [daemon.program for daemon in daemons if _ensure(folder, daemon)]


def _ensure(folder: ClusterFolder, daemon: Daemon) -> bool:
    arguments = folder.processes / f"{daemon.program}.arguments"
    wanted = json.dumps([str(argument) for argument in daemon.argv])
    if process.running(folder, daemon.program) is not None:
        if arguments.exists() and arguments.read_text() == wanted:
            return False
        say(f"{daemon.program} runs with other arguments than it should: restarting it")
        process.stop(folder, [daemon.program])
    arguments.write_text(wanted)
    return process.start(folder, daemon.program, daemon.argv, environment=daemon.environment)


def wait_until_ready(folder: ClusterFolder, daemons: Sequence[Daemon]) -> None:
    for daemon in daemons:
        _wait(folder, daemon)


def _wait(folder: ClusterFolder, daemon: Daemon) -> None:
    deadline = time.monotonic() + daemon.ready_seconds
    while problem := daemon.problem():
        if process.running(folder, daemon.program) is None:
            raise NotReadyError(_told(folder, daemon, "ended before it was ready"))
        if time.monotonic() > deadline:
            said = f"was not ready within {daemon.ready_seconds:.0f} s ({problem})"
            raise NotReadyError(_told(folder, daemon, said))
        time.sleep(_POLL_SECONDS)


def _told(folder: ClusterFolder, daemon: Daemon, said: str) -> str:
    log = process.last_lines(folder, daemon.program)
    return f"{daemon.program} {said}; the end of {folder.log(daemon.program)}:\n{log}"
