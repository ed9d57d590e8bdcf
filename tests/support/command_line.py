"""The command line in the test's own process: what it prints, and with which code it ends."""

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from rich.console import Console

from modelserver_cli.__main__ import run, shell_of
from modelserver_cli.shell import Shell


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    code: int
    out: str


def shell(out: io.StringIO, **changes: object) -> Shell:
    """As behind a pipe."""
    made = shell_of(Console(file=out, width=80, force_terminal=False))
    return replace(made, **changes)


def command(*arguments: str, stdin: str = "", pause: Callable[[float], None] | None = None) -> Said:
    out = io.StringIO()
    changes = {"read": lambda _: stdin} if stdin else {}
    if pause is not None:
        changes["pause"] = pause
    code = run(arguments, shell(out, now=lambda: datetime.now(UTC), **changes))
    return Said(code=code, out=out.getvalue())


class Interrupted:
    """A `pause` that plays Ctrl-C after so many of them."""

    def __init__(self, after: int) -> None:
        self._left = after
        self._event = threading.Event()

    def __call__(self, _: float) -> None:
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt
        self._event.wait(0.05)
