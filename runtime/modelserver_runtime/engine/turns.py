"""Places in a model, or in all models together, and whose turn it is to have one."""

import asyncio
from collections.abc import Callable, Iterator
from enum import StrEnum

from modelserver_runtime.engine.queue import Entry, FairQueue, QueueLimits
from modelserver_runtime.engine.worker import Clock
from modelserver_runtime.errors import RequestFailure


class Obstacle(StrEnum):
    FULL = "queue_full"
    DISPLACED = "displaced"
    EXPIRED = "queue_timeout"


class NoTurn(Exception):
    """Raised again as an answer by the gate, which knows the model."""

    def __init__(self, obstacle: Obstacle) -> None:
        super().__init__(obstacle)
        self.obstacle = obstacle


class Turn:
    """Places that a request has; `release` gives all of them back, also twice."""

    __slots__ = ("_changed_at", "_place_seconds", "_turns", "began", "entry", "units")

    def __init__(self, turns: "Turns", entry: Entry, now: float) -> None:
        self._turns = turns
        self._place_seconds = 0.0
        self._changed_at = now
        self.entry = entry
        self.units = entry.units
        self.began = now

    @property
    def is_wanted(self) -> bool:
        """Whether somebody else waits for a place."""
        return self._turns.waiting > 0

    def used(self, now: float) -> float:
        """Seconds of one place."""
        return self._place_seconds + self.units * (now - self._changed_at)

    def left(self, now: float) -> float:
        """Seconds of one place that are still expected to be used."""
        return max(0.0, self.entry.cost - self.used(now))

    def grow(self, units: int) -> int:
        """Takes more places as far as nobody else wants them; how many there are now."""
        self._change(self._turns.take_free(units))
        return self.units

    def shrink(self, units: int) -> None:
        """Gives some places back; the last one only with `release`."""
        given = min(units, self.units - 1)
        self._change(-given)
        self._turns.give_back(given)

    def release(self) -> None:
        if not self.units:
            return
        units = self.units
        self._change(-units)
        self._turns.end(self, units, self._place_seconds)

    def _change(self, units: int) -> None:
        now = self._turns.clock()
        self._place_seconds = self.used(now)
        self._changed_at = now
        self.units += units


class Waiter:
    """Somebody at the door: has a turn, or waits for one. `owner` is the gate it came through."""

    __slots__ = ("entry", "error", "future", "owner", "turn")

    def __init__(self, entry: Entry, owner: object) -> None:
        self.entry = entry
        self.owner = owner
        self.turn: Turn | None = None
        self.error: Exception | None = None
        self.future: asyncio.Future[None] | None = None

    def fail(self, error: Exception) -> None:
        """Also before it waits: its time may be over as soon as it has asked."""
        self.error = error
        if self.future is not None and not self.future.done():
            self.future.set_exception(error)

    def wake(self) -> None:
        if self.future is not None and not self.future.done():
            self.future.set_result(None)


class Turns:
    """Used on the event loop only; `clock` must run as fast as the loop's."""

    def __init__(self, *, places: int, limits: QueueLimits, clock: Clock) -> None:
        self.places = places
        self.clock = clock
        self._free = places
        self._queue = FairQueue(limits)
        self._waiters: dict[Entry, Waiter] = {}
        self._running: set[Turn] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def running(self) -> int:
        """Turns that are being taken, not their places."""
        return len(self._running)

    @property
    def free(self) -> int:
        return self._free

    def waiters(self) -> Iterator[Waiter]:
        return iter(self._waiters.values())

    def ask(self, entry: Entry, owner: object) -> Waiter:
        """A waiter that may already have its turn; raises NoTurn when too many wait."""
        waiter = Waiter(entry, owner)
        if not self._queue and entry.units <= self._free:
            self._give(waiter, self.clock())
            return waiter
        self._waiters[entry] = waiter
        displaced = self._queue.push(entry)
        if displaced is not None:
            loser = self._waiters.pop(displaced)
            if displaced is entry:
                raise NoTurn(Obstacle.FULL)
            loser.fail(NoTurn(Obstacle.DISPLACED))
        self._give_turns()
        return waiter

    async def turn_of(self, waiter: Waiter) -> Turn:
        """Waits for it; raises NoTurn if it comes too late. Leaves the queue when cancelled."""
        if waiter.error is not None:
            raise waiter.error
        if waiter.turn is None:
            waiter.future = asyncio.get_running_loop().create_future()
            self._set_timer()
            try:
                await waiter.future
            except BaseException:
                self._leave(waiter)
                raise
        turn = waiter.turn
        if turn is None:
            raise RuntimeError("woken without a turn")
        return turn

    def _leave(self, waiter: Waiter) -> None:
        """The turn may have come in the same moment in which the waiter was cancelled."""
        self._waiters.pop(waiter.entry, None)
        if waiter.turn is not None:
            waiter.turn.release()
        elif self._queue.remove(waiter.entry):
            self._give_turns()

    def refuse(self, owner: object, failure: Callable[[], RequestFailure]) -> None:
        """Sends away everybody who waits for one model."""
        for waiter in [each for each in self._waiters.values() if each.owner is owner]:
            self._queue.remove(waiter.entry)
            del self._waiters[waiter.entry]
            waiter.fail(failure())
        self._give_turns()

    def wait_seconds(self, entry: Entry) -> float:
        """How long a new entry would wait, by what turns are thought to take."""
        if not self._queue and entry.units <= self._free:
            return 0.0
        now = self.clock()
        work = self._queue.work_before(entry.priority, entry.tenant)
        return (work + sum(turn.left(now) for turn in self._running)) / self.places

    def seconds_until_turn(self) -> float:
        """How long until the next turn ends, and so until the next one in the queue has its own."""
        now = self.clock()
        return min((turn.left(now) / turn.units for turn in self._running), default=0.0)

    def take_free(self, units: int) -> int:
        taken = 0 if self._queue else min(units, self._free)
        self._free -= taken
        return taken

    def give_back(self, units: int) -> None:
        self._free += units
        self._give_turns()

    def end(self, turn: Turn, units: int, place_seconds: float) -> None:
        self._running.discard(turn)
        self._queue.charge(turn.entry, place_seconds - turn.entry.cost)
        self.give_back(units)

    def _give_turns(self) -> None:
        if not self._queue:
            return
        now = self.clock()
        self._expire(now)
        while (entry := self._queue.pop(now, self._free)) is not None:
            waiter = self._waiters.pop(entry)
            self._give(waiter, now)
            waiter.wake()

    def _give(self, waiter: Waiter, now: float) -> None:
        self._free -= waiter.entry.units
        waiter.turn = Turn(self, waiter.entry, now)
        self._running.add(waiter.turn)

    def _expire(self, now: float) -> None:
        for entry in self._queue.expire(now):
            self._waiters.pop(entry).fail(NoTurn(Obstacle.EXPIRED))

    def _set_timer(self) -> None:
        """One timer for all: for the entry that expires first."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._queue:
            left = max(0.0, self._queue.next_expiry - self.clock())
            self._timer = asyncio.get_running_loop().call_later(left, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._give_turns()
        self._set_timer()
