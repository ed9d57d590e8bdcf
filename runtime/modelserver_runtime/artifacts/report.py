"""Shows the progress of a fetch: over HTTP to the operator, in lines of text to people."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

from modelserver_runtime.artifacts.progress import Phase, Progress, ProgressReport
from modelserver_runtime.errors import InvalidConfiguration

_LOOK_SECONDS = 0.25
_LINE_SECONDS = 2.0
_LINE_PERCENT = 5
_UNITS = ("B", "kB", "MB", "GB", "TB")
_STEP = 1000


@contextmanager
def serve_progress(progress: Progress, *, host: str, port: int) -> Iterator[int]:
    """Answers `/startupz` and `/livez` in threads of its own; yields the port it listens on."""
    try:
        server = ThreadingHTTPServer((host, port), _handler(progress))
    except OSError as error:
        raise InvalidConfiguration(
            f"Cannot listen on {host}:{port}: {error.strerror}",
            hint="Set MODELSERVER_HOST and MODELSERVER_PORT to an address that is free.",
        ) from error
    server.daemon_threads = True
    thread = Thread(
        target=server.serve_forever, args=(_LOOK_SECONDS,), name="progress", daemon=True
    )
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(progress: Progress) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # A client that sends nothing must not hold a thread for ever.
        timeout = 10

        def do_GET(self) -> None:
            report = progress.report()
            match self.path.partition("?")[0]:
                case "/startupz":
                    is_ready = report.phase is Phase.READY
                    self._answer(
                        HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE,
                        report.as_json(),
                    )
                case "/livez":
                    self._answer(HTTPStatus.OK, {"status": "alive"})
                case path:
                    self._answer(
                        HTTPStatus.NOT_FOUND, {"error": f"{path} is not served while fetching"}
                    )

        def _answer(self, status: HTTPStatus, body: dict[str, object]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Says nothing: probes come every few seconds."""

    return Handler


@contextmanager
def print_progress(progress: Progress, write: Callable[[str], None] = print) -> Iterator[None]:
    """Writes a line every 5 percent, at every new message, and every 2 seconds that bring bytes."""
    stop = Event()
    thread = Thread(target=_print_until, args=(progress, write, stop), name="lines", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _print_until(progress: Progress, write: Callable[[str], None], stop: Event) -> None:
    last, looks = None, 0
    while True:
        is_last = stop.wait(_LOOK_SECONDS)
        report, looks = progress.report(), looks + 1
        if _is_news(report, last, is_late=is_last or looks * _LOOK_SECONDS >= _LINE_SECONDS):
            write(line_of(report))
            last, looks = report, 0
        if is_last:
            return


def _is_news(report: ProgressReport, last: ProgressReport | None, *, is_late: bool) -> bool:
    if not report.total_bytes and not report.message:
        return False
    if last is None or report.message != last.message:
        return True
    advanced = report.percent - last.percent >= _LINE_PERCENT
    return advanced or (is_late and report.done_bytes != last.done_bytes)


def line_of(report: ProgressReport) -> str:
    parts = [f"{report.phase} {report.percent:3d} %"]
    if report.total_bytes:
        parts.append(f"{_size(report.done_bytes)} of {_size(report.total_bytes)}")
    if report.eta_seconds:
        parts.append(f"{report.eta_seconds} s left")
    if report.message:
        parts.append(report.message)
    return "  ".join(parts)


def _size(size: float) -> str:
    unit = 0
    while size >= _STEP and unit < len(_UNITS) - 1:
        size, unit = size / _STEP, unit + 1
    return f"{size:.1f} {_UNITS[unit]}" if unit else f"{size:.0f} B"
