"""Watches whether a model's steps come to an end.

    step runs too long ─▶ circuit open, not ready ──(it ends)──▶ circuit closed, ready
                                  └──(still running much later)──▶ the worker is given up, and
                                                                   with it the process (code 50)

A thread in native code cannot be stopped; only a new process helps then.
"""

import asyncio
import logging
import weakref
from dataclasses import dataclass

from modelserver_runtime.engine.breaker import CircuitState
from modelserver_runtime.engine.gate import Gate
from modelserver_runtime.engine.worker import AnyWorker, Clock
from modelserver_runtime.errors import FailureClass

log = logging.getLogger(__name__)

_LONGEST_INTERVAL_SECONDS = 1.0
_LOOKS_PER_LIMIT = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchdogLimits:
    """After `step_seconds` a step is stuck; `exit_seconds` later nobody hopes any more."""

    step_seconds: float
    exit_seconds: float


class Watchdog:
    """Used on the event loop only; ends with its worker."""

    def __init__(self, worker: AnyWorker, gate: Gate, limits: WatchdogLimits, clock: Clock) -> None:
        # The timer would keep the worker of an unloaded model, and with it the weights.
        self._worker = weakref.ref(worker)
        self._gate = gate
        self._limits = limits
        self._clock = clock
        self._interval = min(_LONGEST_INTERVAL_SECONDS, limits.step_seconds / _LOOKS_PER_LIMIT)
        self._is_stuck = False

    def start(self) -> None:
        asyncio.get_running_loop().call_later(self._interval, self._look)

    def _look(self) -> None:
        worker = self._worker()
        if worker is None or not worker.is_alive:
            return
        seconds = worker.heartbeat.stuck_seconds(self._clock())
        if seconds > self._limits.step_seconds + self._limits.exit_seconds:
            worker.give_up(f"A step of the model has not come back for {seconds:.0f} s")
            return
        if seconds > self._limits.step_seconds:
            self._note_stuck(seconds)
        elif self._is_stuck:
            self._note_recovery()
        self.start()

    def _note_stuck(self, seconds: float) -> None:
        if not self._is_stuck:
            log.error("A step of the model has been running for %.0f s", seconds)
        self._is_stuck = True
        if self._gate.circuits()[FailureClass.STEP_TIMEOUT] is not CircuitState.OPEN:
            self._gate.trip(FailureClass.STEP_TIMEOUT)

    def _note_recovery(self) -> None:
        log.warning("The step of the model that took too long has ended")
        self._is_stuck = False
        self._gate.heal(FailureClass.STEP_TIMEOUT)
