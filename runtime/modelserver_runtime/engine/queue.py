"""Who is next: a bounded queue of four priorities, fair between tenants, in which nobody starves.

    class      the requests of one priority; the highest one goes first, but a class that gets
               nothing counts one priority more for every `ageing_seconds`
    tenant     inside a class the tenant goes first that was given the least; what it is given is
               measured in seconds of the model
    entry      inside a tenant: first come first served

A tenant that comes back after a pause starts level with the others: it neither saves up turns nor
pays for what it was given while nobody else waited.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from modelserver_runtime.engine.request import Priority


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Entry:
    """Somebody who waits; `cost` is what a turn takes, in seconds of one place of the model.

    `units` are the places that it needs at once. `arrived` and `expires` are readings of the clock
    that the queue is given; after `expires` a turn is of no use any more.
    """

    priority: Priority
    tenant: str
    cost: float
    arrived: float
    expires: float
    units: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    max_waiting: int
    ageing_seconds: float


def urgency(priority: Priority, unserved_seconds: float, ageing_seconds: float) -> float:
    """A priority that rises by one for every `ageing_seconds` without what it waits for."""
    return priority + unserved_seconds / ageing_seconds


@dataclass(slots=True, kw_only=True)
class _Tenant:
    """`given` is its virtual time, `backlog` the cost of its entries."""

    given: float
    entries: deque[Entry]
    backlog: float = 0.0


class _Class:
    """The entries of one priority."""

    def __init__(self) -> None:
        self.active: dict[str, _Tenant] = {}
        self._given: dict[str, float] = {}
        self._virtual = 0.0
        self.unserved_since = 0.0
        self.backlog = 0.0

    def push(self, entry: Entry) -> None:
        if not self.active:
            self._begin_busy_period(entry.arrived)
        tenant = self.active.get(entry.tenant)
        if tenant is None:
            tenant = _Tenant(given=self._level(entry.tenant), entries=deque())
            self.active[entry.tenant] = tenant
        tenant.entries.append(entry)
        tenant.backlog += entry.cost
        self.backlog += entry.cost

    def _begin_busy_period(self, now: float) -> None:
        """Nobody waited, so nobody was kept from anything: all are equal again."""
        self._given.clear()
        self._virtual = 0.0
        self.unserved_since = now
        self.backlog = 0.0

    def _level(self, name: str) -> float:
        """Where a tenant starts: with what it was given, but not behind those who wait.

        The virtual time advances as if all had been served at once. Starting there, an endless
        row of new tenants cannot keep an old one from its turn.
        """
        most = max((tenant.given for tenant in self.active.values()), default=self._virtual)
        return max(self._given.get(name, 0.0), min(self._virtual, most))

    def first(self) -> Entry:
        return self._first_tenant().entries[0]

    def _first_tenant(self) -> _Tenant:
        """Of equals the one that has been active longest: dictionaries keep their order."""
        return min(self.active.values(), key=_given)

    def take(self, entry: Entry, now: float) -> None:
        """Gives the first entry its turn."""
        tenant = self.active[entry.tenant]
        self._virtual = max(self._virtual + entry.cost / len(self.active), tenant.given)
        tenant.given += entry.cost
        self._given[entry.tenant] = tenant.given
        self.unserved_since = now
        self.remove(entry)

    def remove(self, entry: Entry) -> None:
        tenant = self.active[entry.tenant]
        tenant.entries.remove(entry)
        tenant.backlog -= entry.cost
        self.backlog -= entry.cost
        if not tenant.entries:
            del self.active[entry.tenant]

    def charge(self, name: str, cost: float) -> None:
        """A turn took more (or less) than was thought; only counts while somebody waits."""
        if not self.active or name not in self._given:
            return
        self._given[name] += cost
        tenant = self.active.get(name)
        if tenant is not None:
            tenant.given += cost

    def youngest(self) -> Entry:
        return max((tenant.entries[-1] for tenant in self.active.values()), key=_arrived)

    def work_before(self, name: str) -> float:
        """Cost of what has its turn before a new entry of a tenant."""
        own = self.active.get(name)
        start = self._level(name) if own is None else own.given + own.backlog
        served, wins_ties = 0.0, True  # those before it in `active` do, where they are level
        for tenant in self.active.values():
            if tenant is own:
                served, wins_ties = served + own.backlog, False
            else:
                served += _served_until(start, tenant, wins_ties=wins_ties)
        return served

    def __iter__(self) -> Iterator[Entry]:
        for tenant in self.active.values():
            yield from tenant.entries


class FairQueue:
    def __init__(self, limits: QueueLimits) -> None:
        self._limits = limits
        self._classes = {priority: _Class() for priority in reversed(Priority)}
        self._entries: set[Entry] = set()
        self._next_expiry = float("inf")

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, entry: Entry) -> bool:
        return entry in self._entries

    def __iter__(self) -> Iterator[Entry]:
        for each in self._classes.values():
            yield from each

    @property
    def next_expiry(self) -> float:
        """No entry expires before; infinite when none waits."""
        return self._next_expiry if self._entries else float("inf")

    def push(self, entry: Entry) -> Entry | None:
        """Who must go: nobody, the youngest LOW entry for a better one, or the new one itself."""
        displaced = None
        if len(self._entries) >= self._limits.max_waiting:
            displaced = self._displaced_by(entry)
            if displaced is None:
                return entry
            self.remove(displaced)
        self._entries.add(entry)
        self._classes[entry.priority].push(entry)
        self._next_expiry = min(self._next_expiry, entry.expires)
        return displaced

    def _displaced_by(self, entry: Entry) -> Entry | None:
        """LOW work is done when there is room for it; all others keep the place they were given."""
        low = self._classes[Priority.LOW]
        return low.youngest() if entry.priority > Priority.LOW and low.active else None

    def pop(self, now: float, room: int) -> Entry | None:
        """The next one; None also if it needs more than `room` places: it is not overtaken."""
        waiting = [priority for priority, each in self._classes.items() if each.active]
        if not waiting:
            return None
        chosen = self._classes[max(waiting, key=lambda priority: self._urgency(priority, now))]
        entry = chosen.first()
        if entry.units > room:
            return None
        chosen.take(entry, now)
        self._entries.discard(entry)
        return entry

    def _urgency(self, priority: Priority, now: float) -> float:
        unserved = now - self._classes[priority].unserved_since
        return urgency(priority, unserved, self._limits.ageing_seconds)

    def remove(self, entry: Entry) -> bool:
        """For one that does not want to wait any more; False if it is not here."""
        if entry not in self._entries:
            return False
        self._entries.discard(entry)
        self._classes[entry.priority].remove(entry)
        return True

    def expire(self, now: float) -> list[Entry]:
        """Removes those for whom a turn comes too late."""
        if now < self._next_expiry:
            return []
        expired = [entry for entry in self if entry.expires <= now]
        for entry in expired:
            self.remove(entry)
        self._next_expiry = min((entry.expires for entry in self), default=float("inf"))
        return expired

    def charge(self, entry: Entry, cost: float) -> None:
        """The turn of `entry` took `cost` more than it said, or less."""
        self._classes[entry.priority].charge(entry.tenant, cost)

    def work_before(self, priority: Priority, tenant: str) -> float:
        """Cost of the turns before that of a new entry, if no more entries come."""
        higher = sum(each.backlog for above, each in self._classes.items() if above > priority)
        return higher + self._classes[priority].work_before(tenant)


def _served_until(level: float, tenant: _Tenant, *, wins_ties: bool) -> float:
    """Cost of a tenant's entries that begin before a level of virtual time, or exactly there."""
    given = tenant.given
    for entry in tenant.entries:
        if given > level or (given == level and not wins_ties):
            break
        given += entry.cost
    return given - tenant.given


def _given(tenant: _Tenant) -> float:
    return tenant.given


def _arrived(entry: Entry) -> float:
    return entry.arrived
