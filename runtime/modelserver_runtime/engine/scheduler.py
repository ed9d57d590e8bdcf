"""Decides which tokens the next step computes; pure: no tensors, threads or clock.

    add ─▶ waiting ──────────admitted──────────▶ running ──finish──▶ gone
              │ ▲                                 │   │
              │ └── preempted, memory is short ───┘   │
              └───────── cancelled or late ───────────┴────────────▶ gone

A step first gives one token to every running sequence that is answering, so that no answer stalls.
What then is left of the step's tokens, and of the time after which those answers want their next
one, goes to prompts: of the highest level first (its priority, which rises with age), among these
of the tenant that was given least, then who came first. When blocks run short who has the lowest
level gives its own back: of the tenant that has most of them, who was admitted last. Its prompt and
its answer so far are computed again later.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from modelserver_runtime.backends.base import SequenceMemory, SequenceSpec, Work
from modelserver_runtime.engine.request import Ticket
from modelserver_runtime.engine.room import Blocks, Reservation, Room, ScheduledSequence
from modelserver_runtime.engine.shares import PROMPT_SHARE, Shares
from modelserver_runtime.engine.step_time import StepShape, StepTimeModel

# Of prompts, in every step that has some: as many as a block of the native engine holds.
_FEWEST_PROMPT_TOKENS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerLimits:
    """`max_batch_tokens` per step; `max_cached_tokens` of all running sequences (None: any).

    The latter is for a backend without memory of its own. Prompts are cut so that answers get
    their next token after `inter_token_seconds`, if they may be: `cuts_prompts`; None: they are not
    cut for that. A sequence counts one priority higher for each `ageing_seconds` since it came.
    """

    max_running: int
    max_batch_tokens: int
    max_cached_tokens: int | None = None
    cuts_prompts: bool = False
    inter_token_seconds: float | None = None
    ageing_seconds: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """All but `work` are sequence ids; expired ones are gone from the scheduler."""

    work: tuple[Work, ...] = ()
    admitted: tuple[int, ...] = ()
    preempted: tuple[int, ...] = ()
    expired: tuple[int, ...] = ()


class Scheduler:
    def __init__(self, limits: SchedulerLimits, memory: SequenceMemory | None = None) -> None:
        self._limits = limits
        self._room: Room = Blocks(memory) if memory else Reservation(limits.max_cached_tokens)
        self._waiting: dict[int, ScheduledSequence] = {}
        self._running: dict[int, ScheduledSequence] = {}
        self._shares = Shares()
        self._step_time = StepTimeModel()
        self._shape = StepShape()
        self._numbers = itertools.count()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def has_work(self) -> bool:
        return bool(self._waiting or self._running)

    def __contains__(self, sequence_id: int) -> bool:
        return sequence_id in self._waiting or sequence_id in self._running

    def add(self, spec: SequenceSpec, ticket: Ticket) -> None:
        """Raises ValueError for one that is here, or could not be held even alone."""
        if spec.sequence_id in self:
            raise ValueError(f"sequence {spec.sequence_id} is already scheduled")
        sequence = ScheduledSequence(
            spec=spec,
            ticket=ticket,
            number=next(self._numbers),
            length=len(spec.prompt_token_ids),
        )
        self._room.require(sequence)
        self._shares.join(ticket.tenant)
        self._waiting[spec.sequence_id] = sequence

    def advance(self, sequence_id: int, tokens: int = 1) -> None:
        """The last step gave it so many tokens of its answer, all computed but the newest."""
        sequence = self._running[sequence_id]
        sequence.length += tokens
        sequence.computed = sequence.length - 1

    def remove(self, sequence_id: int) -> bool:
        """Frees place and memory of a sequence, finished or cancelled; False if it is not here."""
        sequence = self._waiting.pop(sequence_id, None)
        if sequence is None:
            sequence = self._running.pop(sequence_id, None)
            if sequence is None:
                return False
            self._room.release(sequence)
        self._shares.leave(sequence.ticket.tenant)
        return True

    def note_time(self, seconds: float) -> None:
        """How long the last step took."""
        self._step_time.observe(self._shape, seconds)

    def schedule(self, now: float) -> Schedule:
        """The next step; it counts as done, so the caller must run it or remove its sequences."""
        self._shape = StepShape()
        expired = tuple(self._expire(now))
        preempted = (*self._make_room(now), *self._make_room_for_urgent(now))
        admitted: list[int] = []
        work = (*self._answers(), *self._prompts(now, admitted))
        return Schedule(work=work, admitted=tuple(admitted), preempted=preempted, expired=expired)

    def _expire(self, now: float) -> Iterator[int]:
        for sequence in [*self._running.values(), *self._waiting.values()]:
            if sequence.ticket.deadline <= now:
                self.remove(sequence.sequence_id)
                yield sequence.sequence_id

    def _make_room(self, now: float) -> Iterator[int]:
        """Alone a sequence always fits, or it would not be here."""
        while len(self._running) > 1 and self._room.missing(self._running.values()):
            yield self._preempt(self._victim(self._running.values(), now))

    def _make_room_for_urgent(self, now: float) -> Iterator[int]:
        """Who waits takes blocks of lower levels only, and only if that is enough."""
        if not self._waiting:
            return
        urgent = min(self._waiting.values(), key=lambda each: self._rank(each, now))
        level = self._level(urgent, now)
        lower = [each for each in self._running.values() if self._level(each, now) < level]
        others = len(self._running) - len(lower)
        if self._room.missing_for(urgent, others=others) > sum(each.held_blocks for each in lower):
            return
        while lower and self._room.missing_for(urgent, others=len(self._running)):
            victim = self._victim(lower, now)
            lower.remove(victim)
            yield self._preempt(victim)

    def _victim(self, among: Iterable[ScheduledSequence], now: float) -> ScheduledSequence:
        held = Counter[str]()
        for each in self._running.values():
            held[each.ticket.tenant] += each.held_blocks
        return min(
            among,
            key=lambda each: (self._level(each, now), -held[each.ticket.tenant], -each.admitted),
        )

    def _preempt(self, sequence: ScheduledSequence) -> int:
        self._room.release(sequence)
        del self._running[sequence.sequence_id]
        self._waiting[sequence.sequence_id] = sequence
        return sequence.sequence_id

    def _answers(self) -> Iterator[Work]:
        for sequence in self._running.values():
            if sequence.is_answering:
                self._room.grow(sequence)
                self._shape.answer_tokens += 1
                yield self._take(sequence, 1, share=1.0)

    def _prompts(self, now: float, admitted: list[int]) -> Iterator[Work]:
        """Who waits is never overtaken by another who waits: else large ones might wait for ever.

        It goes for slots and memory; prompts that have begun go on beside it.
        """
        begun = [each for each in self._running.values() if each.left]
        waiting = list(self._waiting.values())
        while begun or waiting:
            sequence = min((*begun, *waiting), key=lambda each: self._rank(each, now))
            if not self._tokens_left(sequence):
                return
            if sequence in begun:
                begun.remove(sequence)
            elif self._admit(sequence):
                waiting.remove(sequence)
                admitted.append(sequence.sequence_id)
            else:
                waiting.clear()
                continue
            tokens = self._part(sequence)
            if not tokens:
                return
            self._shape.prompt_tokens += tokens
            yield self._take(sequence, tokens, share=PROMPT_SHARE)

    def _admit(self, sequence: ScheduledSequence) -> bool:
        running = len(self._running)
        if running >= self._limits.max_running or not self._room.admit(sequence, others=running):
            return False
        sequence.admitted = next(self._numbers)
        del self._waiting[sequence.sequence_id]
        self._running[sequence.sequence_id] = sequence
        return True

    def _part(self, sequence: ScheduledSequence) -> int:
        """How much of a prompt this step computes.

        Cut elsewhere, the same prompt may be computed with other roundings; then a part is taken
        whole, or in a later step. One is taken in every step, whatever else there is.
        """
        left = self._tokens_left(sequence)
        if self._limits.cuts_prompts:
            return min(sequence.left, left)
        whole = min(sequence.left, self._limits.max_batch_tokens)
        return whole if whole <= left or not self._shape.prompt_tokens else 0

    def _tokens_left(self, sequence: ScheduledSequence) -> int:
        """For a prompt: of the step, and of the time until the next token of the answers."""
        shape, most = self._shape, self._limits.max_batch_tokens
        left = most - shape.tokens
        target = self._limits.inter_token_seconds
        if target and shape.answer_tokens and self._step_time.is_trained:
            seconds = target - self._step_time.predict(shape)
            context = sequence.computed
            left = min(left, self._step_time.prompt_tokens_within(seconds, context=context))
        fewest = 0 if shape.prompt_tokens else min(_FEWEST_PROMPT_TOKENS, most)
        return max(left, fewest)

    def _take(self, sequence: ScheduledSequence, tokens: int, *, share: float) -> Work:
        before = sequence.computed
        sequence.computed += tokens
        self._shape.attended += tokens * before + tokens * tokens // 2
        self._shares.charge(sequence.ticket.tenant, share * tokens)
        return Work(sequence_id=sequence.sequence_id, tokens=tokens)

    def _rank(self, sequence: ScheduledSequence, now: float) -> tuple[float, ...]:
        """The smallest is next."""
        given = self._shares.given(sequence.ticket.tenant)
        return (-self._level(sequence, now), given, sequence.number)

    def _level(self, sequence: ScheduledSequence, now: float) -> int:
        return sequence.level(now, self._limits.ageing_seconds)
