"""Equal requests that are answered at the same time cost one answer.

The first one *leads*: it starts the computation, in a task of its own. Others *join* and read the
same pieces from the first one on. Nobody owns the computation: it ends early only when the last
reader has left. Flights that were started by one call are computed by one run.

    lead ─▶ run ─▶ pieces ─▶ landed
             └─▶ failed ─▶ the failure, or another run with a later deadline or without the others
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from modelserver_runtime.cache.key import Key
from modelserver_runtime.cache.reading import Reading, Seat
from modelserver_runtime.cache.shelf import Answer
from modelserver_runtime.engine.request import Ticket
from modelserver_runtime.errors import (
    BackendFailure,
    DeadlineUnreachable,
    Overloaded,
    QueueTimeout,
    RequestFailure,
    RequestTimeout,
)

# With a later deadline, or as one that came later, a request may fare better.
_MATTERS_OF_TIME = (RequestTimeout, QueueTimeout, DeadlineUnreachable, Overloaded)


class Flight[Request, Chunk]:
    """One answer that is being computed, and who reads it.

    A stored answer younger than `max_age_seconds` will do as well; `recalled` is one that was found
    on the way. `epoch` is the second level's, for storing the answer there.
    """

    def __init__(self, key: Key, request: Request, max_age_seconds: float = math.inf) -> None:
        self.key = key
        self.request = request
        self.max_age_seconds = max_age_seconds
        self.chunks: list[Chunk] = []
        self.is_over = False
        self.seats: set[Seat[Chunk]] = set()
        self.run: _Run[Request, Chunk] | None = None
        self.recalled: Answer[Chunk] | None = None
        self.epoch: bytes | None = None
        self.seen = 0  # pieces that the present run has given

    def wake(self) -> None:
        for seat in self.seats:
            seat.reading.wake(seat)


@dataclass(eq=False, slots=True, kw_only=True)
class _Run[Request, Chunk]:
    """One call of the computation; `reading` is that of the caller who leads."""

    flights: Sequence[Flight[Request, Chunk]]
    ticket: Ticket
    reading: Reading[Chunk]
    task: "asyncio.Task[None] | None" = None

    @property
    def is_abandoned(self) -> bool:
        return not any(
            flight.seats for flight in self.flights if flight.run is self and not flight.is_over
        )


class Computation[Request, Chunk](Protocol):
    """Gives pieces of the flights by their index, as they come; raises for all that are open."""

    def __call__(
        self, flights: Sequence[Flight[Request, Chunk]], ticket: Ticket
    ) -> AbstractAsyncContextManager[AsyncIterator[tuple[int, Chunk | RequestFailure]]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FlightRules[Request, Chunk]:
    """`is_same` compares pieces at the same place of two runs; `on_landing` is told of answers."""

    is_last: Callable[[Chunk], bool]
    is_same: Callable[[Chunk, Chunk], bool]
    on_landing: Callable[[Flight[Request, Chunk]], None]


class SingleFlight[Request, Chunk]:
    """Used on the event loop only."""

    def __init__(
        self, compute: Computation[Request, Chunk], rules: FlightRules[Request, Chunk]
    ) -> None:
        self._compute = compute
        self._rules = rules
        self._flights: dict[Key, Flight[Request, Chunk]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._flights)

    def joinable(
        self, key: Key, ticket: Ticket, max_age_seconds: float
    ) -> Flight[Request, Chunk] | None:
        """Whoever is more urgent than the leader does not wait for the leader's turn."""
        flight = self._flights.get(key)
        if flight is None or flight.max_age_seconds > max_age_seconds:
            return None
        if flight.run is None or flight.chunks:
            return flight
        return flight if flight.run.ticket.priority >= ticket.priority else None

    def prepare(self, key: Key, request: Request, max_age_seconds: float) -> Flight[Request, Chunk]:
        """A new flight, which others may join; `lead` must follow at once."""
        flight: Flight[Request, Chunk] = Flight(key, request, max_age_seconds)
        self._flights[key] = flight
        return flight

    def sit(
        self,
        flight: Flight[Request, Chunk],
        reading: Reading[Chunk],
        index: int,
        *,
        is_leader: bool,
    ) -> Seat[Chunk]:
        seat = reading.take_seat(index, flight, is_leader=is_leader)
        flight.seats.add(seat)
        return seat

    def lead(self, flights: Sequence[Flight[Request, Chunk]], reading: Reading[Chunk]) -> None:
        """Starts one run for all flights that a call has prepared."""
        self._start(flights, reading.ticket, reading)

    def leave(self, seat: Seat[Chunk]) -> None:
        flight = seat.source
        if not isinstance(flight, Flight):
            return
        flight.seats.discard(seat)
        run = flight.run
        if run is not None and run.task is not None and run.is_abandoned:
            for other in run.flights:
                self._forget(other)
            run.task.cancel()

    def disown(self) -> None:
        """Flights that are on their way go on for those who read them, but nobody joins them."""
        self._flights.clear()

    def _start(
        self,
        flights: Sequence[Flight[Request, Chunk]],
        ticket: Ticket,
        reading: Reading[Chunk],
    ) -> None:
        run = _Run(flights=flights, ticket=ticket, reading=reading)
        for flight in flights:
            flight.run = run
            flight.seen = 0
        run.task = asyncio.create_task(self._fly(run))
        self._tasks.add(run.task)
        run.task.add_done_callback(self._tasks.discard)

    async def _fly(self, run: _Run[Request, Chunk]) -> None:
        try:
            async with self._compute(run.flights, run.ticket) as pieces:
                async for index, piece in pieces:
                    self._take(run, run.flights[index], piece)
            self._fail_all(run, BackendFailure("The model ended before its answer was complete"))
        except RequestFailure as failure:
            self._fail_all(run, failure)
        except Exception as error:  # noqa: BLE001  it is raised to everybody who waits for it
            self._fail_all(run, error)

    def _take(
        self,
        run: _Run[Request, Chunk],
        flight: Flight[Request, Chunk],
        piece: Chunk | RequestFailure,
    ) -> None:
        if flight.is_over or flight.run is not run:
            return
        if isinstance(piece, RequestFailure):
            self._fail(run, flight, piece, is_alone=True)
            return
        flight.seen += 1
        if flight.seen > len(flight.chunks):
            flight.chunks.append(piece)
        elif not self._rules.is_same(piece, flight.chunks[flight.seen - 1]):
            # A former run was given up, and this one says something else than was read already.
            sentence = "The answer was given up and came out differently; try again"
            self._fail(run, flight, BackendFailure(sentence), is_alone=True)
            return
        if self._rules.is_last(piece):
            self._land(flight)
        flight.wake()

    def _land(self, flight: Flight[Request, Chunk]) -> None:
        flight.is_over = True
        if self._flights.get(flight.key) is flight:
            # Else it was disowned, and its answer must not be kept.
            self._rules.on_landing(flight)
            del self._flights[flight.key]

    def _forget(self, flight: Flight[Request, Chunk]) -> None:
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]

    def _fail_all(self, run: _Run[Request, Chunk], failure: Exception) -> None:
        open_flights = [f for f in run.flights if f.run is run and not f.is_over]
        for flight in open_flights:
            self._fail(run, flight, failure, is_alone=len(run.flights) == 1)

    def _fail(
        self,
        run: _Run[Request, Chunk],
        flight: Flight[Request, Chunk],
        failure: Exception,
        *,
        is_alone: bool,
    ) -> None:
        """Whoever could fare better without the leader is computed for again."""
        heirs = {seat for seat in flight.seats if _inherits(seat, run, failure, is_alone=is_alone)}
        for seat in flight.seats - heirs:
            seat.fail(failure)
        flight.seats = heirs
        if heirs:
            heir = max(heirs, key=lambda seat: seat.reading.ticket.deadline).reading
            self._start([flight], heir.ticket, heir)
        else:
            flight.is_over = True
            self._forget(flight)


def _inherits[Request, Chunk](
    seat: Seat[Chunk], run: _Run[Request, Chunk], failure: Exception, *, is_alone: bool
) -> bool:
    """Of a deadline that was the leader's, or of a failure that may be another request's fault."""
    if isinstance(failure, _MATTERS_OF_TIME):
        return seat.reading.ticket.deadline > run.ticket.deadline
    return isinstance(failure, RequestFailure) and not is_alone and seat.reading is not run.reading
