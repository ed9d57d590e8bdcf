"""The steps of text generation: schedule → run → postprocess, in the model's thread."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modelserver_runtime.backends.base import (
    GenerationBackend,
    GuessOutcome,
    SequenceSpec,
    TokenOutput,
    Work,
    failure_class_of,
)
from modelserver_runtime.engine.output import Delta, OutputAssembler
from modelserver_runtime.engine.request import GenerationRequest, Ticket
from modelserver_runtime.engine.scheduler import Schedule, Scheduler
from modelserver_runtime.engine.worker import Clock
from modelserver_runtime.errors import BackendFailure, RequestFailure, RequestTimeout
from modelserver_runtime.telemetry import ModelTelemetry

log = logging.getLogger(__name__)

# Steps that fail one after the other, after which the model is held to be broken.
MOST_FAILED_STEPS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class AddSequence:
    sequence_id: int
    request: GenerationRequest
    ticket: Ticket


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelSequence:
    sequence_id: int


type Command = AddSequence | CancelSequence


@dataclass(slots=True, kw_only=True)  # not frozen: see backends.base.Work
class SequenceEvent:
    """News of one sequence: more of its answer, or why there will be none."""

    sequence_id: int
    delta: Delta | None = None
    failure: RequestFailure | None = None


@dataclass(slots=True, kw_only=True)
class _Live:
    assembler: OutputAssembler
    ticket: Ticket
    last_token_at: float | None = None


class GenerationSteps:
    """See `engine.worker.StepLoop`."""

    def __init__(
        self,
        backend: GenerationBackend,
        scheduler: Scheduler,
        telemetry: ModelTelemetry,
        clock: Clock,
    ) -> None:
        self._backend = backend
        self._scheduler = scheduler
        self._telemetry = telemetry
        self._clock = clock
        self._live: dict[int, _Live] = {}
        self._failed_steps = 0

    @property
    def has_work(self) -> bool:
        return self._scheduler.has_work

    def patience(self, _: float) -> float:
        """A sequence can join at every step, so that there is nothing to wait for."""
        return 0.0

    def accept(self, command: Command) -> None:
        match command:
            case AddSequence():
                self._add(command)
            case CancelSequence(sequence_id=sequence_id):
                self._forget(sequence_id)

    def step(self, now: float) -> Sequence[SequenceEvent]:
        schedule = self._scheduler.schedule(now)
        events = [self._expire(sequence_id, now) for sequence_id in schedule.expired]
        self._note_schedule(schedule)
        if schedule.work:
            outputs = self._run(schedule.work)
            events.extend(self._postprocess(outputs, self._clock()))
            self._note_step(outputs, self._clock() - now)
        self._note_load()
        return events

    def _add(self, command: AddSequence) -> None:
        request = command.request
        spec = SequenceSpec(
            sequence_id=command.sequence_id,
            prompt_token_ids=request.prompt_token_ids,
            sampling=request.sampling,
            cache_salt=f"{command.ticket.tenant}\n{request.cache_salt}",
            prediction=request.prediction,
        )
        self._backend.add(spec)
        self._scheduler.add(spec, command.ticket)
        assembler = OutputAssembler(
            self._backend.tokenizer,
            request.sampling,
            request.rules,
            self._backend.limits.end_token_ids,
        )
        self._live[command.sequence_id] = _Live(assembler=assembler, ticket=command.ticket)
        self._note_load()

    def _forget(self, sequence_id: int) -> None:
        self._live.pop(sequence_id, None)
        self._scheduler.remove(sequence_id)
        self._backend.free(sequence_id)
        self._note_load()

    def _expire(self, sequence_id: int, now: float) -> SequenceEvent:
        waited = now - self._live[sequence_id].ticket.arrived
        self._forget(sequence_id)
        failure = RequestTimeout(
            f"The answer was not complete after {waited:.0f} s; ask for fewer tokens or try later"
        )
        return SequenceEvent(sequence_id=sequence_id, failure=failure)

    def _run(self, work: Sequence[Work]) -> Sequence[TokenOutput]:
        try:
            outputs = self._backend.step(work)
        except Exception as error:
            self._failed_steps += 1
            if self._failed_steps >= MOST_FAILED_STEPS:
                raise
            log.exception("A step of %d sequences failed", len(work))
            return [
                TokenOutput(
                    sequence_id=item.sequence_id,
                    failure="The model failed while computing this request; try again",
                    failure_class=failure_class_of(error),
                )
                for item in work
            ]
        self._failed_steps = 0
        return outputs

    def _postprocess(self, outputs: Sequence[TokenOutput], now: float) -> Iterator[SequenceEvent]:
        for output in outputs:
            if output.sequence_id not in self._live:
                continue  # an output before, of the same step, was its last one
            if output.failure is not None:
                yield self._fail(output, output.failure)
            elif output.token_id is not None:
                yield self._advance(output, now)

    def _fail(self, output: TokenOutput, sentence: str) -> SequenceEvent:
        self._forget(output.sequence_id)
        self._telemetry.failures.inc()
        failure = BackendFailure(sentence, failure_class=output.failure_class)
        return SequenceEvent(sequence_id=output.sequence_id, failure=failure)

    def _advance(self, output: TokenOutput, now: float) -> SequenceEvent:
        live = self._live[output.sequence_id]
        self._scheduler.advance(output.sequence_id)
        self._note_token(live, now)
        delta = live.assembler.push(output)
        if delta.finish_reason is not None:
            self._forget(output.sequence_id)
        return SequenceEvent(sequence_id=output.sequence_id, delta=delta)

    def _note_token(self, live: _Live, now: float) -> None:
        live.ticket.timing.note_token(now)
        if live.last_token_at is None:
            self._telemetry.first_token_seconds.observe(now - live.ticket.arrived)
        else:
            self._telemetry.inter_token_seconds.observe(now - live.last_token_at)
        live.last_token_at = now

    def _note_schedule(self, schedule: Schedule) -> None:
        if schedule.work:
            self._telemetry.batch_size.observe(len(schedule.work))
        self._telemetry.preemptions.inc(len(schedule.preempted))

    def _note_step(self, outputs: Sequence[TokenOutput], seconds: float) -> None:
        self._telemetry.generated_tokens.inc(sum(map(_has_token, outputs)))
        self._note_guesses([output.guess for output in outputs if output.guess is not None])
        self._telemetry.step_seconds.observe(seconds)
        if not self._failed_steps:
            self._scheduler.note_time(seconds)

    def _note_guesses(self, guesses: Sequence[GuessOutcome]) -> None:
        right = sum(guess.is_right for guess in guesses)
        self._telemetry.accepted_tokens.inc(right)
        self._telemetry.speculated_tokens.inc(right + sum(guess.wrong for guess in guesses))

    def _note_load(self) -> None:
        self._telemetry.running.set(self._scheduler.running)
        self._telemetry.note_waiting("scheduler", self._scheduler.waiting)


def _has_token(output: TokenOutput) -> bool:
    return output.token_id is not None and output.failure is None
