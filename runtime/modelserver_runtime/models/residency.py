"""Which models leave memory so that another one finds room: decided here, done elsewhere."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A model in memory; `last_used` is a reading of the monotonic clock, in seconds."""

    name: str
    size_bytes: int
    last_used: float
    is_busy: bool = False
    may_leave: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What all models together may take."""

    models: int
    budget_bytes: int


class NoRoom(Exception):
    """Says what is in the way."""


def victims(residents: Sequence[Resident], wanted_bytes: int, room: Room) -> list[str]:
    """The names of those that must leave, in their order; raises NoRoom if that is not enough.

    Whoever was used longest ago leaves first, and one that answers nobody before one that does.
    """
    leaving: list[str] = []
    count, taken = len(residents), sum(resident.size_bytes for resident in residents)
    for resident in _in_order_of_leaving(residents):
        if count < room.models and taken + wanted_bytes <= room.budget_bytes:
            break
        leaving.append(resident.name)
        count -= 1
        taken -= resident.size_bytes
    if count >= room.models:
        raise NoRoom(f"{count} models that may not be unloaded are in memory, as many as allowed")
    if taken + wanted_bytes > room.budget_bytes:
        left = max(0, room.budget_bytes - taken)
        raise NoRoom(f"it needs about {wanted_bytes} bytes, and at most {left} can be freed for it")
    return leaving


def _in_order_of_leaving(residents: Sequence[Resident]) -> Iterator[Resident]:
    leaving = [resident for resident in residents if resident.may_leave]
    yield from sorted(leaving, key=lambda resident: (resident.is_busy, resident.last_used))
