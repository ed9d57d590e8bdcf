"""The one thread that runs a model: takes commands, steps, hands events to the event loop."""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

log = logging.getLogger(__name__)

type Clock = Callable[[], float]


class StepLoop[Command, Event](Protocol):
    """What a worker runs; all methods are called from its thread only."""

    @property
    def has_work(self) -> bool: ...

    def accept(self, command: Command) -> None: ...

    def patience(self, now: float) -> float:
        """Seconds for which a step would be better for waiting; asked again when they are over."""
        ...

    def step(self, now: float) -> Sequence[Event]:
        """Schedules, runs the model, and says what came of it."""
        ...


class Heartbeat:
    """When the step that is running began; None between steps. Written by the worker's thread."""

    def __init__(self) -> None:
        self.step_began: float | None = None

    def stuck_seconds(self, now: float) -> float:
        began = self.step_began
        return 0.0 if began is None else max(0.0, now - began)


class AnyWorker(Protocol):
    """What health and shutdown need of a worker."""

    @property
    def heartbeat(self) -> Heartbeat: ...

    @property
    def is_alive(self) -> bool: ...

    @property
    def died(self) -> asyncio.Event: ...

    @property
    def died_because(self) -> str:
        """A sentence; empty while it lives."""
        ...

    def give_up(self, reason: str) -> None:
        """Declares it dead: whatever its thread is doing, nobody waits for it any more."""
        ...

    def stop(self, timeout_seconds: float) -> None: ...


class Worker[Command, Event]:
    """Events of one step reach `deliver` in one call on the event loop."""

    def __init__(
        self,
        steps: StepLoop[Command, Event],
        *,
        loop: asyncio.AbstractEventLoop,
        deliver: Callable[[Sequence[Event]], None],
        on_death: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._steps = steps
        self._loop = loop
        self._deliver = deliver
        self._on_death = on_death
        self._clock = clock
        self._outbox: list[Command] = []  # of the event loop's present turn
        self._inbox: list[Command] = []
        self._wake = threading.Condition()
        self._stopping = False
        self.heartbeat = Heartbeat()
        self.died = asyncio.Event()
        self.died_because = ""
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive() and not self.died.is_set()

    def send(self, command: Command) -> None:
        """On the event loop; the thread is woken once for all that one turn of the loop sends."""
        # Waking it costs a tenth of what a short request costs in all.
        if not self._outbox:
            self._loop.call_soon(self._hand_over)
        self._outbox.append(command)

    def _hand_over(self) -> None:
        with self._wake:
            self._inbox.extend(self._outbox)
            self._wake.notify()
        self._outbox.clear()

    def stop(self, timeout_seconds: float) -> None:
        """Ends the thread after its present step; what it has not computed is lost."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(timeout_seconds)

    def give_up(self, reason: str) -> None:
        if not self.died.is_set():
            self.died_because = reason
            self._on_death()
            self.died.set()

    def _run(self) -> None:
        try:
            while self._take_commands():
                if self._steps.patience(self._clock()) <= 0:
                    self._step()
        except Exception:
            log.exception("The model's thread died")
            self._call(lambda: self.give_up("The model's thread died"))

    def _take_commands(self) -> bool:
        """Waits until there is something to do; False when the worker is to end."""
        with self._wake:
            while not (self._inbox or self._stopping):
                patience = self._steps.patience(self._clock()) if self._steps.has_work else None
                if patience is not None and patience <= 0:
                    break
                self._wake.wait(patience)
            commands, self._inbox = self._inbox, []
            stopping = self._stopping
        for command in commands:
            self._steps.accept(command)
        return not stopping

    def _step(self) -> None:
        now = self._clock()
        self.heartbeat.step_began = now
        try:
            events = self._steps.step(now)
        finally:
            self.heartbeat.step_began = None
        if events:
            self._call(lambda: self._deliver(events))

    def _call(self, callback: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback)
