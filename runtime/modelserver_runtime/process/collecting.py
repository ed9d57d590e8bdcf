"""When Python looks for garbage in cycles: not while it imports, which makes hardly any."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Thousands of modules mean dozens of looks through all that was imported before."""
    was_collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_collecting:
            gc.enable()
