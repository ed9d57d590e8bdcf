"""The asyncio front of a generating model: requests in, deltas out, cancellation by leaving."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager

from modelserver_runtime.backends.base import GenerationBackend
from modelserver_runtime.engine.admission import Admission
from modelserver_runtime.engine.generation import (
    AddSequence,
    CancelSequence,
    Command,
    GenerationSteps,
    SequenceEvent,
)
from modelserver_runtime.engine.output import Delta
from modelserver_runtime.engine.request import GenerationRequest, Ticket
from modelserver_runtime.engine.scheduler import Scheduler, SchedulerLimits
from modelserver_runtime.engine.worker import Clock, Worker
from modelserver_runtime.errors import BackendFailure, RequestTimeout
from modelserver_runtime.telemetry import ModelTelemetry

type Deltas = AsyncGenerator[tuple[int, Delta]]

# A step may run past a deadline by this much before its requests are given up without it.
_PATIENCE_SECONDS = 2.0

DIED = "The model has stopped working; the server is about to be restarted"


class GenerationEngine:
    """Owns the worker of a generating model. Used on the event loop only."""

    def __init__(
        self,
        backend: GenerationBackend,
        *,
        limits: SchedulerLimits,
        max_waiting: int,
        telemetry: ModelTelemetry,
        clock: Clock,
    ) -> None:
        self.backend = backend
        self._telemetry = telemetry
        self._clock = clock
        self.admission = Admission(parallel=limits.max_running, waiting=max_waiting, clock=clock)
        self._ids = itertools.count(1)
        self._readers: dict[int, asyncio.Queue[SequenceEvent]] = {}
        self.worker: Worker[Command, SequenceEvent] = Worker(
            GenerationSteps(backend, Scheduler(limits), telemetry, clock),
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
        with self.admission.enter():
            async with aclosing(self._generate(requests, ticket)) as deltas:
                yield deltas

    async def _generate(self, requests: Sequence[GenerationRequest], ticket: Ticket) -> Deltas:
        queue: asyncio.Queue[SequenceEvent] = asyncio.Queue()
        unfinished = self._submit(requests, ticket, queue)
        try:
            while unfinished:
                event = await self._next_event(queue, ticket)
                if event.failure is not None:
                    raise event.failure
                if event.delta is None:
                    continue
                index = unfinished[event.sequence_id]
                if event.delta.finish_reason is not None:
                    self._forget(event.sequence_id, unfinished)
                yield index, event.delta
        finally:
            for sequence_id in list(unfinished):
                self._forget(sequence_id, unfinished)
                self.worker.send(CancelSequence(sequence_id=sequence_id))

    async def _next_event(
        self, queue: "asyncio.Queue[SequenceEvent]", ticket: Ticket
    ) -> SequenceEvent:
        """The scheduler ends late requests itself; this is for a step that does not come back."""
        left = ticket.deadline - self._clock() + _PATIENCE_SECONDS
        try:
            async with asyncio.timeout(max(0.0, left)):
                return await queue.get()
        except TimeoutError as error:
            raise RequestTimeout("The model did not answer in time; try again later") from error

    def _submit(
        self,
        requests: Sequence[GenerationRequest],
        ticket: Ticket,
        queue: asyncio.Queue[SequenceEvent],
    ) -> dict[int, int]:
        """Sends the requests to the worker; the index of each by its sequence id."""
        ticket.timing.note_queued(self._clock())
        indices = {}
        for index, request in enumerate(requests):
            sequence_id = next(self._ids)
            indices[sequence_id] = index
            self._readers[sequence_id] = queue
            self._telemetry.prompt_tokens.inc(len(request.prompt_token_ids))
            ticket.timing.prompt_tokens += len(request.prompt_token_ids)
            self.worker.send(AddSequence(sequence_id=sequence_id, request=request, ticket=ticket))
        return indices

    def _forget(self, sequence_id: int, unfinished: dict[int, int]) -> None:
        del unfinished[sequence_id]
        self._readers.pop(sequence_id, None)

    def _deliver(self, events: Sequence[SequenceEvent]) -> None:
        for event in events:
            reader = self._readers.get(event.sequence_id)
            if reader is not None:
                reader.put_nowait(event)

    def _die(self) -> None:
        self.admission.close(DIED)
        for sequence_id, reader in self._readers.items():
            failure = BackendFailure(DIED)
            reader.put_nowait(SequenceEvent(sequence_id=sequence_id, failure=failure))
