"""Who is using a model: as long as a lease lives, its model stays in memory.

The leases of one HTTP exchange end with it, also when its answer is a stream. Work that outlives
an exchange opens a scope of its own with `leasing`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from modelserver_runtime.models.served import ModelLease, ServedModel


class Leases:
    """The leases of one scope; `model` is the one of the latest, also after the end."""

    def __init__(self) -> None:
        self._held: list[ModelLease] = []
        self._is_over = False
        self.model: ServedModel | None = None

    def add(self, lease: ModelLease) -> None:
        if self._is_over:
            lease.release()
            raise RuntimeError("The exchange is over; open a scope with leasing() for other work")
        self._held.append(lease)
        self.model = lease.model

    def end(self) -> None:
        self._is_over = True
        while self._held:
            self._held.pop().release()


_scope: ContextVar[Leases | None] = ContextVar("leases", default=None)


@contextmanager
def leasing() -> Iterator[Leases]:
    leases = Leases()
    token = _scope.set(leases)
    try:
        yield leases
    finally:
        _scope.reset(token)
        leases.end()


def current_leases() -> Leases:
    leases = _scope.get()
    if leases is None:
        raise RuntimeError("Nobody would give the model back; open a scope with leasing()")
    return leases
