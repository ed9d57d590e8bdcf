"""What one HTTP exchange asks of the cache, and what became of it.

The exchange is found through the context of its task, so that no route has to pass it on; work
without an exchange, such as that of a batch file, gets one that asks for nothing.
"""

import math
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """Where an answer came from; the value of X-Cache."""

    HIT = "hit"
    COALESCED = "coalesced"
    MISS = "miss"
    BYPASS = "bypass"


@dataclass(frozen=True, slots=True, kw_only=True)
class Directives:
    """What a request asks of the cache.

    Only answers younger than `max_age_seconds` will do; 0 wants a new one. `sampled` wants also
    samples with a seed to be kept.
    """

    no_store: bool = False
    only_if_cached: bool = False
    max_age_seconds: float = math.inf
    sampled: bool = False


@dataclass(frozen=True, slots=True)
class _Note:
    outcome: Outcome
    age_seconds: float
    ttl_seconds: float


# The part of an answer that took the most decides what is said about the whole.
_WEIGHTS = {Outcome.BYPASS: 0, Outcome.HIT: 1, Outcome.COALESCED: 2, Outcome.MISS: 3}


class Exchange:
    """`is_streamed`: the client wants an answer in its pieces, also one that is stored."""

    def __init__(self, directives: Directives = Directives()) -> None:
        self.directives = directives
        self.is_streamed = False
        self._notes: dict[Hashable, _Note] = {}

    def note(
        self,
        part: Hashable,
        outcome: Outcome,
        *,
        age_seconds: float = 0.0,
        ttl_seconds: float = 0.0,
    ) -> None:
        """Says where one part of the answer comes from; a later word on the same part counts."""
        self._notes[part] = _Note(outcome, age_seconds, ttl_seconds)

    @property
    def outcome(self) -> Outcome | None:
        """Of the whole answer; None if the cache was not asked."""
        outcomes = (note.outcome for note in self._notes.values())
        return max(outcomes, key=_WEIGHTS.__getitem__, default=None)

    @property
    def age_seconds(self) -> float:
        return max((note.age_seconds for note in self._notes.values()), default=0.0)

    @property
    def seconds_left(self) -> float:
        """Until the oldest part of the answer is no longer given."""
        left = (note.ttl_seconds - note.age_seconds for note in self._notes.values())
        return max(0.0, min(left, default=0.0))


_current: ContextVar[Exchange | None] = ContextVar("cache_exchange", default=None)


def current_exchange() -> Exchange:
    return _current.get() or Exchange()


@contextmanager
def exchanging(exchange: Exchange) -> Iterator[Exchange]:
    token = _current.set(exchange)
    try:
        yield exchange
    finally:
        _current.reset(token)
