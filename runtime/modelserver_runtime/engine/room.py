"""Whether the keys and values of a sequence have room, as far as a backend lets that be known."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from modelserver_runtime.backends.base import SequenceMemory, SequenceSpec
from modelserver_runtime.engine.queue import urgency
from modelserver_runtime.engine.request import Ticket


@dataclass(slots=True, eq=False, kw_only=True)
class ScheduledSequence:
    """`length` are the tokens of its prompt and its answer so far, of which `computed` are cached.

    `number` is its place in the order of arrival, `admitted` in that of (the last) admission.
    """

    spec: SequenceSpec
    ticket: Ticket
    number: int
    length: int
    computed: int = 0
    admitted: int = -1
    held_blocks: int = 0

    @property
    def sequence_id(self) -> int:
        return self.spec.sequence_id

    @property
    def left(self) -> int:
        return self.length - self.computed

    @property
    def is_answering(self) -> bool:
        """All is computed but the token it was given last."""
        return self.left == 1 and self.length > len(self.spec.prompt_token_ids)

    @property
    def most_tokens(self) -> int:
        return len(self.spec.prompt_token_ids) + self.spec.sampling.max_tokens

    def level(self, now: float, ageing_seconds: float) -> int:
        """Its priority, one higher for each `ageing_seconds` since it came."""
        return int(urgency(self.ticket.priority, now - self.ticket.arrived, ageing_seconds))


class Room(Protocol):
    def require(self, sequence: ScheduledSequence) -> None:
        """Raises ValueError if it could not be held even alone."""
        ...

    def admit(self, sequence: ScheduledSequence, *, others: int) -> bool:
        """Takes what it needs to begin, if there is enough beside the `others` that run."""
        ...

    def grow(self, sequence: ScheduledSequence) -> None:
        """Takes what its next token needs, which must be there."""
        ...

    def release(self, sequence: ScheduledSequence) -> None: ...

    def missing(self, running: Iterable[ScheduledSequence]) -> int:
        """Blocks that the next tokens of those that answer lack."""
        ...

    def missing_for(self, sequence: ScheduledSequence, *, others: int) -> int:
        """Blocks that it lacks to be admitted, if nobody began like it."""
        ...


class Reservation:
    """For a backend of which only a bound is known: the longest possible answers must fit.

    A sequence larger than the bound, which is an estimate, runs alone. Nobody is interrupted.
    """

    def __init__(self, most_tokens: int | None) -> None:
        self._most = most_tokens
        self._reserved = 0

    def require(self, sequence: ScheduledSequence) -> None: ...

    def admit(self, sequence: ScheduledSequence, *, others: int) -> bool:
        tokens = self._reserved + sequence.most_tokens
        if others and self._most is not None and tokens > self._most:
            return False
        self._reserved = tokens
        return True

    def grow(self, sequence: ScheduledSequence) -> None: ...

    def release(self, sequence: ScheduledSequence) -> None:
        self._reserved -= sequence.most_tokens

    def missing(self, running: Iterable[ScheduledSequence]) -> int:
        del running
        return 0

    def missing_for(self, sequence: ScheduledSequence, *, others: int) -> int:
        del sequence, others
        return 0


class Blocks:
    """What is there is given out as it is needed; who gets none has to wait, or to give way."""

    def __init__(self, memory: SequenceMemory) -> None:
        self._memory = memory

    def require(self, sequence: ScheduledSequence) -> None:
        blocks = self._blocks_of(sequence.most_tokens)
        if blocks > self._memory.blocks:
            raise ValueError(
                f"sequence {sequence.sequence_id} may need {blocks} blocks of keys and values, and "
                f"there are {self._memory.blocks}; give it fewer tokens"
            )

    def admit(self, sequence: ScheduledSequence, *, others: int) -> bool:
        """Room for its tokens, and for a block more of everybody: else one would soon give way."""
        sequence.computed = self._memory.begin(sequence.sequence_id)
        sequence.held_blocks = self._blocks_of(sequence.computed)
        if others and self.missing_for(sequence, others=others) > 0:
            self.release(sequence)
            return False
        self._hold(sequence)
        return True

    def grow(self, sequence: ScheduledSequence) -> None:
        if self._lacked_by(sequence):
            self._hold(sequence)

    def _hold(self, sequence: ScheduledSequence) -> None:
        self._memory.grow(sequence.sequence_id, sequence.length)
        sequence.held_blocks = self._blocks_of(sequence.length)

    def release(self, sequence: ScheduledSequence) -> None:
        self._memory.release(sequence.sequence_id)
        sequence.held_blocks = sequence.computed = 0

    def missing(self, running: Iterable[ScheduledSequence]) -> int:
        lacked = sum(self._lacked_by(each) for each in running if each.is_answering)
        return max(0, lacked - self._memory.available) if lacked else 0

    def missing_for(self, sequence: ScheduledSequence, *, others: int) -> int:
        return max(0, self._lacked_by(sequence) + others - self._memory.available)

    def _lacked_by(self, sequence: ScheduledSequence) -> int:
        return self._blocks_of(sequence.length) - sequence.held_blocks

    def _blocks_of(self, tokens: int) -> int:
        return -(-tokens // self._memory.block_tokens)
