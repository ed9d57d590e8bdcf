"""What `/admin/queue/stats` shows: who waits, and what became of each tenant's requests."""

from collections import OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from modelserver_runtime.engine.queue import Entry
from modelserver_runtime.engine.request import Priority

# Accounts that are kept; that of whom nothing was heard for longest is forgotten.
_MOST_ACCOUNTS = 1000


@dataclass(slots=True, kw_only=True)
class Account:
    admitted: int = 0
    refused: int = 0
    timed_out: int = 0


class Accounts:
    """One for each tenant and priority."""

    def __init__(self) -> None:
        self._accounts: OrderedDict[tuple[Priority, str], Account] = OrderedDict()

    def of(self, priority: Priority, tenant: str) -> Account:
        key = (priority, tenant)
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = Account()
            if len(self._accounts) > _MOST_ACCOUNTS:
                self._accounts.popitem(last=False)
        else:
            self._accounts.move_to_end(key)
        return account

    def of_priority(self, priority: Priority) -> Iterator[tuple[str, Account]]:
        for (each, tenant), account in self._accounts.items():
            if each is priority:
                yield tenant, account


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantStatistics:
    tenant: str
    waiting: int
    oldest_seconds: float
    admitted: int
    refused: int
    timed_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorityStatistics:
    """`predicted_wait_seconds` is what a new request of a new tenant would wait."""

    priority: str
    waiting: int
    oldest_seconds: float
    predicted_wait_seconds: float
    tenants: tuple[TenantStatistics, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatistics:
    """`typical_seconds` is how long a request stays in the model."""

    places: int
    running: int
    typical_seconds: float
    priorities: tuple[PriorityStatistics, ...]


def priority_statistics(
    priority: Priority,
    entries: Collection[Entry],
    accounts: Accounts,
    *,
    predicted_wait_seconds: float,
    now: float,
) -> PriorityStatistics:
    known = dict(accounts.of_priority(priority))
    names = dict.fromkeys([*known, *(entry.tenant for entry in entries)])
    return PriorityStatistics(
        priority=priority.name,
        waiting=len(entries),
        oldest_seconds=_oldest(entries, now),
        predicted_wait_seconds=predicted_wait_seconds,
        tenants=tuple(
            _tenant(name, entries, known.get(name, Account()), now) for name in sorted(names)
        ),
    )


def _tenant(
    name: str, entries: Collection[Entry], account: Account, now: float
) -> TenantStatistics:
    own = [entry for entry in entries if entry.tenant == name]
    return TenantStatistics(
        tenant=name,
        waiting=len(own),
        oldest_seconds=_oldest(own, now),
        admitted=account.admitted,
        refused=account.refused,
        timed_out=account.timed_out,
    )


def _oldest(entries: Collection[Entry], now: float) -> float:
    return max((now - entry.arrived for entry in entries), default=0.0)
