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
        self._inbox: list[Command] = []
        self._wake = threading.Condition()
        self._stopping = False
        self.heartbeat = Heartbeat()
        self.died = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive() and not self.died.is_set()

    def send(self, command: Command) -> None:
        with self._wake:
            self._inbox.append(command)
            self._wake.notify()

    def stop(self, timeout_seconds: float) -> None:
        """Ends the thread after its present step; what it has not computed is lost."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        try:
            while self._take_commands():
                self._step()
        except Exception:
            log.exception("The model's thread died")
            self._call(self._note_death)

    def _note_death(self) -> None:
        self._on_death()
        self.died.set()

    def _take_commands(self) -> bool:
        """Waits until there is something to do; False when the worker is to end."""
        with self._wake:
            while not (self._inbox or self._steps.has_work or self._stopping):
                self._wake.wait()
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
