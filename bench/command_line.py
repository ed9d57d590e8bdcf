"""What the commands of the benchmarks have in common: clean ends, and whole numbers."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

_INTERRUPTED = 130


def run_benchmark(
    work: Coroutine[Any, Any, int],
    failure: type[Exception] | tuple[type[Exception], ...],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> int:
    """The exit code; Ctrl-C and SIGTERM end everything that was started, and `failure` is said."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return asyncio.run(work, loop_factory=loop_factory)
    except KeyboardInterrupt:
        print("interrupted: all servers are ended, no result was written", file=sys.stderr)
        return _INTERRUPTED
    except failure as error:
        print(error, file=sys.stderr)
        return 1


def count(text: str) -> int:
    """A whole number from 1 on, of a flag."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)
