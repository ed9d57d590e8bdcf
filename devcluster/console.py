"""What a person sees while waiting: a live line on a terminal, plain lines in a log."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

_HEARTBEAT_SECONDS = 15.0
_console = Console(stderr=True, highlight=False)


def say(message: str) -> None:
    """One line about what happened; results that other programs read go to standard output."""
    if _console.is_terminal:
        _console.print(message, markup=False)
    else:
        print(message, file=sys.stderr, flush=True)


@contextmanager
def step(message: str) -> Iterator[None]:
    """Show that `message` is being done, for how long, and how long it took.

    A step that fails says nothing here: the error that passes through tells more.
    """
    started = time.monotonic()
    with _live(message) if _console.is_terminal else _plain(message, started):
        yield
    say(f"✓ {message} ({time.monotonic() - started:.1f} s)")


@contextmanager
def _live(message: str) -> Iterator[None]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=_console, transient=True) as progress:
        progress.add_task(message, total=None)
        yield


@contextmanager
def _plain(message: str, started: float) -> Iterator[None]:
    say(f"… {message}")
    ended = threading.Event()
    heart = threading.Thread(target=_beat, args=(message, started, ended), daemon=True)
    heart.start()
    try:
        yield
    finally:
        ended.set()
        heart.join()


def _beat(message: str, started: float, ended: threading.Event) -> None:
    while not ended.wait(_HEARTBEAT_SECONDS):
        say(f"… {message}: {time.monotonic() - started:.0f} s so far")
