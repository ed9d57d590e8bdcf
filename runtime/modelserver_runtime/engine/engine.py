"""The asyncio front of a generating model: requests in, deltas out, cancellation by leaving."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from modelserver_runtime.backends.base import GenerationBackend
from modelserver_runtime.engine.gate import CONSTRAINED, PLAIN, Gate, Visit
from modelserver_runtime.engine.generation import (
    AddSequence,
    CancelSequence,
    Command,
    GenerationSteps,
    SequenceEvent,
)
from modelserver_runtime.engine.mailbox import Mailbox
from modelserver_runtime.engine.output import Delta, joined
from modelserver_runtime.engine.request import GenerationRequest, Ticket
from modelserver_runtime.engine.scheduler import Scheduler, SchedulerLimits
from modelserver_runtime.engine.shares import PROMPT_SHARE
from modelserver_runtime.engine.worker import Clock, Worker
from modelserver_runtime.errors import BackendFailure, RequestFailure, RequestTimeout
from modelserver_runtime.telemetry import ModelTelemetry

type Deltas = AsyncGenerator[tuple[int, Delta]]

# A step may run past a deadline by this much before its requests are given up without it.
_PATIENCE_SECONDS = 2.0
# How long answers are thought to be before any was seen, and the weight of the newest one.
_FIRST_GUESS_TOKENS = 128.0
_NEWEST_WEIGHT = 0.1

DIED = "The model has stopped working; the server is about to be restarted"


@dataclass(slots=True, eq=False, kw_only=True)
class _Request:
    """`running` are the sequences that the model works on, with their index in `sequences`."""

    sequences: Sequence[GenerationRequest]
    ticket: Ticket
    visit: Visit
    events: Mailbox[tuple[int, SequenceEvent]] = field(default_factory=Mailbox)
    running: dict[int, int] = field(default_factory=dict)
    begun: int = 0
    cost: float = 0.0

    @property
    def left(self) -> int:
        return len(self.sequences) - self.begun


class GenerationEngine:
    """Owns the worker of a generating model. Used on the event loop only."""

    def __init__(
        self,
        backend: GenerationBackend,
        *,
        gate: Gate,
        limits: SchedulerLimits,
        telemetry: ModelTelemetry,
        clock: Clock,
    ) -> None:
        self.backend = backend
        self.gate = gate
        self._telemetry = telemetry
        self._clock = clock
        self._ids = itertools.count(1)
        self._requests: dict[int, _Request] = {}
        self._usual_tokens = _FIRST_GUESS_TOKENS
        self.worker: Worker[Command, SequenceEvent] = Worker(
            GenerationSteps(backend, Scheduler(limits, backend.memory), telemetry, clock),
            loop=asyncio.get_running_loop(),
            deliver=self._deliver,
            on_death=self._die,
            clock=clock,
        )
        self.worker.start()

    @asynccontextmanager
    async def open(
        self, requests: Sequence[GenerationRequest], ticket: Ticket
    ) -> AsyncGenerator[Deltas]:
        """Deltas of all requests as they come, each with the index of its request.

        Leaving early, also by cancellation, frees what is not finished.
        """
        is_constrained = any(request.sampling.grammar is not None for request in requests)
        async with self.gate.enter(
            ticket,
            cost=sum(self._expected_cost(request) for request in requests),
            units=len(requests),
            concerned=CONSTRAINED if is_constrained else PLAIN,
        ) as visit:
            request = _Request(sequences=requests, ticket=ticket, visit=visit)
            async with aclosing(self._generate(request)) as deltas:
                yield deltas

    def _expected_cost(self, request: GenerationRequest) -> float:
        tokens = min(request.sampling.max_tokens, self._usual_tokens)
        return _cost(request, tokens)

    async def _generate(self, request: _Request) -> Deltas:
        self._begin(request, request.visit.turn.units)
        unfinished = len(request.sequences)
        alarm = self._set_alarm(request)
        try:
            while unfinished:
                deltas, failure = _news(await request.events.take())
                for index, delta in deltas:
                    if delta.finish_reason is not None:
                        unfinished -= 1
                    yield index, delta
                if failure is not None:
                    raise failure
        finally:
            alarm.cancel()
            for sequence_id in list(request.running):
                self._forget(sequence_id)
                self.worker.send(CancelSequence(sequence_id=sequence_id))

    def _set_alarm(self, request: _Request) -> asyncio.TimerHandle:
        """The scheduler ends late requests itself; this is for a step that does not come back."""
        failure = RequestTimeout("The model did not answer in time; try again later")
        left = request.ticket.deadline - self._clock() + _PATIENCE_SECONDS
        event = SequenceEvent(sequence_id=0, failure=failure)
        loop = asyncio.get_running_loop()
        return loop.call_later(max(0.0, left), request.events.put, (0, event))

    def _begin(self, request: _Request, count: int) -> None:
        """Sends the next sequences to the worker."""
        for index in range(request.begun, min(request.begun + count, len(request.sequences))):
            sequence, sequence_id = request.sequences[index], next(self._ids)
            request.running[sequence_id] = index
            self._requests[sequence_id] = request
            self._telemetry.prompt_tokens.inc(len(sequence.prompt_token_ids))
            request.ticket.timing.prompt_tokens += len(sequence.prompt_token_ids)
            request.begun += 1
            self.worker.send(
                AddSequence(sequence_id=sequence_id, request=sequence, ticket=request.ticket)
            )

    def _forget(self, sequence_id: int) -> int:
        """Its index in its request."""
        return self._requests.pop(sequence_id).running.pop(sequence_id)

    def _deliver(self, events: Sequence[SequenceEvent]) -> None:
        for event in events:
            request = self._requests.get(event.sequence_id)
            if request is not None:
                index = request.running[event.sequence_id]
                request.events.put((index, event))
                self._note_end(request, event)

    def _note_end(self, request: _Request, event: SequenceEvent) -> None:
        """Places are free when the model is done, however slowly the client reads."""
        if event.failure is not None:
            self._forget(event.sequence_id)
            request.visit.fail(event.failure)
        elif event.delta is not None and event.delta.finish_reason is not None:
            index = self._forget(event.sequence_id)
            tokens = event.delta.completion_tokens
            request.cost += _cost(request.sequences[index], tokens)
            self._usual_tokens += _NEWEST_WEIGHT * (tokens - self._usual_tokens)
            self._advance(request)

    def _advance(self, request: _Request) -> None:
        """The place of a finished sequence goes to the next one, unless others wait for it."""
        if request.visit.is_over:
            return
        if not request.left and not request.running:
            request.visit.succeed(request.cost)
            return
        turn = request.visit.turn
        if request.left and not turn.is_wanted:
            turn.grow(max(0, request.left + len(request.running) - turn.units))
        elif request.running:
            turn.shrink(turn.units - len(request.running))
        self._begin(request, turn.units - len(request.running))

    def _die(self) -> None:
        self.gate.close(DIED)
        for sequence_id, request in self._requests.items():
            failure = BackendFailure(DIED)
            event = SequenceEvent(sequence_id=sequence_id, failure=failure)
            request.events.put((request.running[sequence_id], event))


def _news(
    events: Sequence[tuple[int, SequenceEvent]],
) -> tuple[Iterator[tuple[int, Delta]], RequestFailure | None]:
    """What waits is told at once: of each sequence one delta, up to the first failure.

    A reader that is slower than the model would otherwise be told each token by itself, which is
    what made it slow.
    """
    deltas: dict[int, list[Delta]] = {}
    for index, event in events:
        if event.failure is not None:
            return _joined(deltas), event.failure
        if event.delta is not None:
            deltas.setdefault(index, []).append(event.delta)
    return _joined(deltas), None


def _joined(deltas: Mapping[int, Sequence[Delta]]) -> Iterator[tuple[int, Delta]]:
    return ((index, joined(parts)) for index, parts in deltas.items())


def _cost(request: GenerationRequest, tokens: float) -> float:
    """In tokens of an answer."""
    return PROMPT_SHARE * len(request.prompt_token_ids) + tokens
