"""How late the event loop is: what else would make every deadline a lie."""

import asyncio

from modelserver_operator.telemetry.metrics import Gauges

TICK_SECONDS = 0.5


class LoopLag:
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._expected = self._loop.time() + TICK_SECONDS
        self._last = 0.0
        self._schedule()

    def seconds(self) -> float:
        """The last lateness, or the present one if that is greater."""
        return max(self._last, self._loop.time() - self._expected, 0.0)

    def show(self, gauges: Gauges) -> None:
        gauges.add("loop_lag_seconds", "How late the event loop is.", self.seconds)

    def _schedule(self) -> None:
        self._expected = self._loop.time() + TICK_SECONDS
        self._loop.call_at(self._expected, self._tick)

    def _tick(self) -> None:
        self._last = max(0.0, self._loop.time() - self._expected)
        self._schedule()
