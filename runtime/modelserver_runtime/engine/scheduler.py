"""Decides which tokens the next step computes; pure: no tensors, threads or clock.

    add → waiting ──admitted, first come first served──▶ running ──finish──▶ gone
             └────────────── cancel or deadline ────────────┴──────────────▶ gone

A step first gives one token to every running sequence that is decoding, so that no answer stalls;
then come prompts, the oldest first, in parts that do not depend on what else is running.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from modelserver_runtime.backends.base import SequenceSpec, Work


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerLimits:
    """`max_batch_tokens` per step; `max_cached_tokens` of all running sequences (None: any)."""

    max_running: int
    max_batch_tokens: int
    max_cached_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """`admitted` and `expired` are sequence ids; expired ones are gone from the scheduler."""

    work: tuple[Work, ...] = ()
    admitted: tuple[int, ...] = ()
    expired: tuple[int, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Entry:
    spec: SequenceSpec
    deadline: float
    computed: int = 0

    @property
    def prompt_left(self) -> int:
        return max(0, len(self.spec.prompt_token_ids) - self.computed)

    @property
    def most_cached_tokens(self) -> int:
        return len(self.spec.prompt_token_ids) + self.spec.sampling.max_tokens


class Scheduler:
    def __init__(self, limits: SchedulerLimits) -> None:
        self._limits = limits
        self._waiting: OrderedDict[int, _Entry] = OrderedDict()
        self._running: OrderedDict[int, _Entry] = OrderedDict()
        self._reserved_tokens = 0

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

    def add(self, spec: SequenceSpec, *, deadline: float) -> None:
        if spec.sequence_id in self:
            raise ValueError(f"sequence {spec.sequence_id} is already scheduled")
        self._waiting[spec.sequence_id] = _Entry(spec=spec, deadline=deadline)

    def remove(self, sequence_id: int) -> bool:
        """Frees the place of a sequence, finished or cancelled; False if it is not here."""
        if self._waiting.pop(sequence_id, None):
            return True
        entry = self._running.pop(sequence_id, None)
        if entry is None:
            return False
        self._reserved_tokens -= entry.most_cached_tokens
        return True

    def schedule(self, now: float) -> Schedule:
        """The next step; it counts as done, so the caller must run it or remove its sequences."""
        expired = tuple(self._expire(now))
        admitted = tuple(self._admit())
        work = tuple(self._work())
        return Schedule(work=work, admitted=admitted, expired=expired)

    def _expire(self, now: float) -> Iterator[int]:
        entries = [*self._running.items(), *self._waiting.items()]
        for sequence_id, entry in entries:
            if entry.deadline <= now:
                self.remove(sequence_id)
                yield sequence_id

    def _admit(self) -> Iterator[int]:
        """Strictly first come first served: a large sequence is never overtaken by small ones."""
        while self._waiting and len(self._running) < self._limits.max_running:
            sequence_id, entry = next(iter(self._waiting.items()))
            if not self._fits(entry):
                return
            del self._waiting[sequence_id]
            self._running[sequence_id] = entry
            self._reserved_tokens += entry.most_cached_tokens
            yield sequence_id

    def _fits(self, entry: _Entry) -> bool:
        limit = self._limits.max_cached_tokens
        if limit is None or not self._running:
            return True
        return self._reserved_tokens + entry.most_cached_tokens <= limit

    def _work(self) -> Iterator[Work]:
        """Prompts are cut at the same places whatever runs beside them.

        Cut elsewhere, the same prompt would be computed with other roundings. So a part is taken
        whole, or in a later step; one is taken in every step, however many sequences are decoding.
        """
        running = list(self._running.values())
        budget = self._limits.max_batch_tokens
        for entry in running:
            if not entry.prompt_left:
                budget -= 1
                yield self._take(entry, 1)
        prompts = [entry for entry in running if entry.prompt_left]
        for index, entry in enumerate(prompts):
            tokens = min(entry.prompt_left, self._limits.max_batch_tokens)
            if index and tokens > budget:
                return
            budget -= tokens
            yield self._take(entry, tokens)

    def _take(self, entry: _Entry, tokens: int) -> Work:
        entry.computed += tokens
        return Work(sequence_id=entry.spec.sequence_id, tokens=tokens)
