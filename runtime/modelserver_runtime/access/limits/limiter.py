"""The limits of one server: shared through Redis where there is one, and always its own as well.

A replica counts for itself too. So a Redis that goes away, or comes back empty, gives nobody a
fresh allowance here, and what is over its limit already does not ask Redis.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from modelserver_runtime.access.limits.charge import Admission, Charge, Slot, Unit
from modelserver_runtime.access.limits.memory import MemoryLimits
from modelserver_runtime.access.limits.shared import SharedLimits


class Limiter:
    """`clock` is monotonic, in seconds.

    `replicas` do the same work: while they do not count together, for want of Redis or because it
    does not answer, each allows its part of every limit.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        shared: SharedLimits | None = None,
        replicas: Callable[[], int] = lambda: 1,
    ) -> None:
        self._clock = clock
        self._own = MemoryLimits()
        self._shared = shared
        self._replicas = replicas

    async def admit(self, charges: Sequence[Charge], slot: Slot | None = None) -> Admission:
        """What `finish` is to be called with, unless its decision refuses."""
        own_charges = charges if self._counts_together else self._parts(charges)
        own = self._own.admit(own_charges, slot, self._clock())
        admission = Admission(charges=charges, own_charges=own_charges, slot=slot, own=own)
        if own.refusal or self._shared is None or not (charges or slot):
            return admission
        try:
            shared = await self._shared.admit(charges, slot)
        except BaseException:
            self._give_back(admission)
            raise
        if shared is not None and shared.refusal:
            self._give_back(admission)
        return replace(admission, shared=shared)

    async def finish(self, admission: Admission, used_tokens: int | None) -> None:
        """`used_tokens` replaces what was reserved; None leaves it as it is."""
        now = self._clock()
        for charge, delta in _corrections(admission.own_charges, used_tokens):
            self._own.correct(charge, delta, stamp=admission.own.stamp, now=now)
        if admission.slot:
            self._own.free(admission.slot)
        if self._shared is not None:
            corrections = _corrections(admission.charges, used_tokens)
            await self._shared.finish(admission, [pair for pair in corrections if pair[1]])

    @property
    def _counts_together(self) -> bool:
        return self._shared is not None and self._shared.is_reachable

    def _parts(self, charges: Sequence[Charge]) -> Sequence[Charge]:
        """Rounded up, so that nobody is refused for ever."""
        replicas = max(1, self._replicas())
        return charges if replicas == 1 else [_part(charge, replicas) for charge in charges]

    def _give_back(self, admission: Admission) -> None:
        now = self._clock()
        for charge in admission.own_charges:
            self._own.correct(charge, -charge.cost, stamp=admission.own.stamp, now=now)
        if admission.slot:
            self._own.free(admission.slot)


def _corrections(charges: Sequence[Charge], used: int | None) -> list[tuple[Charge, int]]:
    """What was used beyond what was reserved, or less."""
    if used is None:
        return []
    return [(charge, used - charge.cost) for charge in charges if charge.unit is Unit.TOKENS]


def _part(charge: Charge, replicas: int) -> Charge:
    limit, burst = (math.ceil(one / replicas) for one in (charge.limit, charge.burst))
    part = replace(charge, limit=limit, burst=burst)
    return replace(part, cost=min(charge.cost, part.capacity))
