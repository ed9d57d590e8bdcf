"""The end of a process that serves.

SIGTERM: not ready ─▶ new requests still answered, connections closed after each (lame duck)
         ─▶ no new connections, requests that are running finish (drain) ─▶ end
Ctrl-C:  the same without the lame duck, since no load balancer has to notice
a second signal: end at once
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable

from modelserver_runtime.process.listener import Listener
from modelserver_runtime.settings import Settings

log = logging.getLogger(__name__)

_SIGNAL_EXIT_BASE = 128

type Say = Callable[[str], None]


class Ending:
    """`is_due` is set by the first signal, or by who has no more to do."""

    def __init__(self, settings: Settings, say: Say) -> None:
        self.is_due = asyncio.Event()
        self._settings = settings
        self._say = say
        self._signal: signal.Signals | None = None

    def hear_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number)

    async def drain(
        self, listener: Listener, serving: "asyncio.Future[None]", begin: Callable[[], None]
    ) -> float:
        """`begin` makes it a lame duck. Returns when nobody new is let in: the seconds that are
        left for requests that run.
        """  # noqa: D205  one sentence
        total = self._settings.drain_seconds
        is_interactive = self._signal is signal.SIGINT
        # The requests that run when the listener closes keep half of the time at least.
        lame_duck = 0.0 if is_interactive else min(self._settings.lame_duck_seconds, total / 2)
        begin()
        self._say(f"Draining for at most {total:.0f} s; a second signal ends at once")
        await asyncio.wait({serving}, timeout=lame_duck)
        listener.end(total - lame_duck)
        return total - lame_duck

    def _on_signal(self, number: signal.Signals) -> None:
        if self._signal is not None:
            log.warning("A second signal: ending at once")
            os._exit(_SIGNAL_EXIT_BASE + number)
        self._signal = number
        self.is_due.set()
