"""One command at a time per folder; the kernel frees the lock when its holder dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devcluster.console import say


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder itself, so that no lock file is left; its holder may also remove it."""
    descriptor = _acquire(folder)
    try:
        yield
    finally:
        os.close(descriptor)


def _acquire(folder: Path) -> int:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # removed in between
        _wait_for(descriptor, folder)
        if _is_still_there(folder, descriptor):
            return descriptor
        os.close(descriptor)


def _wait_for(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"Another command works in {folder}: waiting for it")
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _is_still_there(folder: Path, descriptor: int) -> bool:
    try:
        return folder.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False
