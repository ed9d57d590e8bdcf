"""The file with the route: read again when it changes; what is wrong with it changes nothing."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

from modelserver_runtime.errors import InvalidRoute
from modelserver_runtime.gateway.counts import Tally
from modelserver_runtime.gateway.route import Route, read_route

log = logging.getLogger(__name__)

# The kubelet puts another folder behind a symbolic link, which no watch of the file itself would
# notice; a look costs microseconds.
_LOOK_SECONDS = 0.25

type Mark = tuple[int, int, int]


class RouteFile:
    """`problem` is why the present content is not followed; empty if it is."""

    def __init__(self, path: Path, follow: Callable[[Route], None], tally: Tally) -> None:
        self._path = path
        self._follow = follow
        self._tally = tally
        self._seen: Mark | None = None
        self.problem = "not read yet"

    def look(self) -> None:
        try:
            mark = _mark(self._path)
            if mark == self._seen:
                return
            content = self._path.read_bytes()
        except OSError as error:
            self._complain(f"{self._path} cannot be read: {error.strerror}")
            self._seen = None
            return
        self._seen = mark
        self._read(content)

    async def watch(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self.look()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _LOOK_SECONDS)

    def _read(self, content: bytes) -> None:
        try:
            route = read_route(content)
        except InvalidRoute as error:
            self._complain(f"{self._path} is no route: {error}")
            return
        self.problem = ""
        self._tally.reloads["followed"] += 1
        self._follow(route)
        log.info("Following a route", extra={"fields": {"version": route.version}})

    def _complain(self, problem: str) -> None:
        """Once for each problem, and not at every look."""
        if problem != self.problem:
            self.problem = problem
            self._tally.reloads["refused"] += 1
            log.error("%s; the route before it still holds", problem)


def _mark(path: Path) -> Mark:
    """Of the file behind all links: another inode, time or size is another content."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size
