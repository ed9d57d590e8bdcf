"""One call of a model through the cache: what is known is read, what is missing is computed."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from modelserver_runtime.cache.codec import Codec
from modelserver_runtime.cache.exchange import Directives, Exchange, Outcome
from modelserver_runtime.cache.key import Key, NotIdentifiable, key_of
from modelserver_runtime.cache.reading import Reading, Seat
from modelserver_runtime.cache.shelf import Answer, Shelf
from modelserver_runtime.cache.single_flight import Flight, FlightRules, SingleFlight
from modelserver_runtime.cache.tally import Level
from modelserver_runtime.engine.request import Ticket
from modelserver_runtime.engine.worker import Clock
from modelserver_runtime.errors import NotCached, RequestFailure

type Pieces[Chunk] = AsyncIterator[tuple[int, Chunk | RequestFailure]]


class Engine[Request, Chunk](Protocol):
    """What is behind the cache: pieces of each request's answer, by its index, as they come."""

    def __call__(
        self, requests: Sequence[Request], ticket: Ticket
    ) -> AbstractAsyncContextManager[Pieces[Chunk]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRules[Request, Chunk]:
    """What the cache must know of a kind of request.

    `may_keep` refuses answers that would come out differently the next time; `joined` makes one
    piece of all; `tokens_of` says how many tokens need not be computed when an answer is known.
    """

    codec: Codec[Chunk]
    may_keep: Callable[[Request, Directives], bool]
    is_last: Callable[[Chunk], bool]
    is_same: Callable[[Chunk, Chunk], bool]
    joined: Callable[[Sequence[Chunk]], Chunk]
    tokens_of: Callable[[Request, Sequence[Chunk]], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelKey:
    """What all keys of a model have in common; with `is_shared` tenants share answers."""

    identity: str
    is_shared: bool = False

    def of(self, request: object, ticket: Ticket) -> Key:
        return key_of(self.identity, "" if self.is_shared else ticket.tenant, request)


@dataclass(frozen=True, slots=True)
class _Stored[Chunk]:
    """See `reading.Source`."""

    answer: Answer[Chunk]
    chunks: Sequence[Chunk]
    is_over: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call[Request, Chunk]:
    """One call on its way; `keys` are those of its requests."""

    requests: Sequence[Request]
    keys: Sequence[Key]
    reading: Reading[Chunk]
    exchange: Exchange

    @property
    def max_age_seconds(self) -> float:
        return self.exchange.directives.max_age_seconds


class CachedCalls[Request, Chunk]:
    """Used on the event loop only."""

    def __init__(
        self,
        engine: Engine[Request, Chunk],
        rules: CallRules[Request, Chunk],
        shelf: Shelf,
        *,
        model_key: ModelKey,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._rules = rules
        self._shelf = shelf
        self._model_key = model_key
        self._clock = clock
        self._flights: SingleFlight[Request, Chunk] = SingleFlight(
            self._compute,
            FlightRules(is_last=rules.is_last, is_same=rules.is_same, on_landing=self._keep),
        )
        shelf.watch(self._flights)

    def keys(
        self, requests: Sequence[Request], ticket: Ticket, directives: Directives
    ) -> list[Key] | None:
        """None if these requests have nothing to do with the cache."""
        if directives.no_store:
            return None
        if not all(self._rules.may_keep(request, directives) for request in requests):
            return None
        try:
            return [self._model_key.of(request, ticket) for request in requests]
        except NotIdentifiable:
            return None

    def note_bypass(self, requests: Sequence[Request], exchange: Exchange) -> None:
        """Raises NotCached if only a stored answer was wanted."""
        exchange.note("bypass", Outcome.BYPASS)
        self._shelf.tally.note_bypassed(len(requests))
        if exchange.directives.only_if_cached:
            raise _not_cached()

    async def read(
        self, requests: Sequence[Request], keys: Sequence[Key], ticket: Ticket, exchange: Exchange
    ) -> AsyncGenerator[tuple[Seat[Chunk], Chunk | Exception]]:
        """Pieces of all answers as they come, each with the seat of its request."""
        if exchange.directives.only_if_cached:
            await self._require_stored(keys, exchange)
        reading: Reading[Chunk] = Reading(ticket, self._clock, self._flights.leave)
        call = _Call(requests=requests, keys=keys, reading=reading, exchange=exchange)
        try:
            self._sit(call)
            begun: set[Seat[Chunk]] = set()
            async for seat, piece in reading.read():
                if seat not in begun:
                    begun.add(seat)
                    self._note_beginning(seat, exchange)
                if seat.is_done and not isinstance(piece, Exception):
                    self._note_end(seat, requests[seat.index])
                yield seat, piece
        finally:
            reading.close()

    async def _require_stored(self, keys: Sequence[Key], exchange: Exchange) -> None:
        """What only the second level has is in memory after this."""
        max_age = exchange.directives.max_age_seconds
        missing = {key for key in keys if self._shelf.find(key, max_age) is None}
        if missing:
            recalled = await self._shelf.recall(list(missing), self._rules.codec)
            young = {key for key, a in recalled.answers.items() if a.age_seconds < max_age}
            missing -= young
        if missing:
            exchange.note("missing", Outcome.MISS)
            raise _not_cached()

    def _sit(self, call: _Call[Request, Chunk]) -> None:
        """Takes a seat at every answer, and leads those that nobody computes yet."""
        leading = []
        for index, key in enumerate(call.keys):
            answer = self._shelf.find(key, call.max_age_seconds)
            if answer is not None:
                stored = self._stored(answer, call.exchange)
                seat = call.reading.take_seat(index, stored, is_leader=False)
                self._note_stored(seat, answer, call.exchange)
                continue
            flight = self._flights.joinable(key, call.reading.ticket, call.max_age_seconds)
            is_leader = flight is None
            if flight is None:
                if call.exchange.directives.only_if_cached:
                    raise _not_cached()
                flight = self._flights.prepare(key, call.requests[index], call.max_age_seconds)
                leading.append(flight)
            seat = self._flights.sit(flight, call.reading, index, is_leader=is_leader)
            outcome = Outcome.MISS if is_leader else Outcome.COALESCED
            call.exchange.note(seat, outcome, ttl_seconds=self._shelf.ttl_seconds)
        if leading:
            self._flights.lead(leading, call.reading)

    def _stored(self, answer: Answer[Chunk], exchange: Exchange) -> _Stored[Chunk]:
        """Whoever wants the whole is given the whole: pieces would only be put together again."""
        chunks = answer.chunks
        return _Stored(answer, chunks if exchange.is_streamed else [self._rules.joined(chunks)])

    def _note_stored(self, seat: Seat[Chunk], answer: Answer[Chunk], exchange: Exchange) -> None:
        exchange.note(
            seat,
            Outcome.HIT,
            age_seconds=answer.age_seconds,
            ttl_seconds=self._shelf.ttl_seconds,
        )

    def _note_beginning(self, seat: Seat[Chunk], exchange: Exchange) -> None:
        """Only now it is known whether a leader had to compute its answer."""
        source = seat.source
        if isinstance(source, _Stored):
            self._shelf.tally.note_hit(source.answer.level)
        elif not seat.is_leader:
            self._shelf.tally.note_coalesced()
        elif isinstance(source, Flight) and source.recalled is not None:
            self._shelf.tally.note_hit(Level.SHARED)
            self._note_stored(seat, source.recalled, exchange)
        else:
            self._shelf.tally.note_miss()

    def _note_end(self, seat: Seat[Chunk], request: Request) -> None:
        if self.is_computed_for(seat):
            return
        self._shelf.tally.note_tokens_saved(self._rules.tokens_of(request, seat.source.chunks))

    def is_computed_for(self, seat: Seat[Chunk]) -> bool:
        """Whether this caller is the one for whom the model has worked."""
        source = seat.source
        return seat.is_leader and isinstance(source, Flight) and source.recalled is None

    @asynccontextmanager
    async def _compute(
        self, flights: Sequence[Flight[Request, Chunk]], ticket: Ticket
    ) -> AsyncGenerator[Pieces[Chunk]]:
        """See `single_flight.Computation`."""
        await self._recall(flights)
        async with aclosing(self._pieces(flights, ticket)) as pieces:
            yield pieces

    async def _recall(self, flights: Sequence[Flight[Request, Chunk]]) -> None:
        wanted = [flight.key for flight in flights if flight.max_age_seconds > 0]
        recollection = await self._shelf.recall(wanted, self._rules.codec)
        for flight in flights:
            answer = recollection.answers.get(flight.key)
            is_young = answer is not None and answer.age_seconds < flight.max_age_seconds
            flight.recalled = answer if is_young else None
            flight.epoch = recollection.epoch

    async def _pieces(
        self, flights: Sequence[Flight[Request, Chunk]], ticket: Ticket
    ) -> AsyncGenerator[tuple[int, Chunk | RequestFailure]]:
        missing = []
        for index, flight in enumerate(flights):
            if flight.recalled is None:
                missing.append(index)
                continue
            for chunk in flight.recalled.chunks:
                yield index, chunk
        if missing:
            requests = [flights[index].request for index in missing]
            async with self._engine(requests, ticket) as pieces:
                async for position, piece in pieces:
                    yield missing[position], piece

    def _keep(self, flight: Flight[Request, Chunk]) -> None:
        if flight.recalled is None:
            self._shelf.keep(flight.key, flight.chunks, self._rules.codec, flight.epoch)


def _not_cached() -> NotCached:
    return NotCached(
        "No answer to this request is stored, and Cache-Control: only-if-cached asks for no other"
    )
