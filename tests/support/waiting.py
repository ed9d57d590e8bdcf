"""Waiting on conditions."""

import threading
import time
from collections.abc import Callable

_never = threading.Event()


def wait_until[T](look: Callable[[], T], *, timeout: float, what: str, interval: float = 0.2) -> T:
    """Looks until the result is truthy and returns it; fails after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}; last seen: {seen!r}"
        _never.wait(interval)
    return seen
