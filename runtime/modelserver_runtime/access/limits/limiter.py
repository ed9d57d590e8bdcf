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

    `replicas` do the same work and do not count together: each allows its part of every limit.
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
        charges = self._parts(charges)
        own = self._own.admit(charges, slot, self._clock())
        admission = Admission(charges=charges, slot=slot, own=own)
        if own.refusal or self._shared is None or not (charges or slot):
            return admission
        try:
            shared = await self._shared.admit(charges, slot)
        except BaseException:
            self._give_back(admission)
            raise
        if shared is not None and shared.refusal:
            self._give_back(admission)
        return Admission(charges=charges, slot=slot, own=own, shared=shared)

    async def finish(self, admission: Admission, used_tokens: int | None) -> None:
        """`used_tokens` replaces what was reserved; None leaves it as it is."""
        corrections = [
            (charge, used_tokens - charge.cost)
            for charge in admission.charges
            if charge.unit is Unit.TOKENS and used_tokens is not None
        ]
        now = self._clock()
        for charge, delta in corrections:
            self._own.correct(charge, delta, stamp=admission.own.stamp, now=now)
        if admission.slot:
            self._own.free(admission.slot)
        if self._shared is not None:
            await self._shared.finish(admission, [pair for pair in corrections if pair[1]])

    def _parts(self, charges: Sequence[Charge]) -> Sequence[Charge]:
        """Rounded up, so that nobody is refused for ever."""
        replicas = max(1, self._replicas())
        return charges if replicas == 1 else [_part(charge, replicas) for charge in charges]

    def _give_back(self, admission: Admission) -> None:
        now = self._clock()
        for charge in admission.charges:
            self._own.correct(charge, -charge.cost, stamp=admission.own.stamp, now=now)
        if admission.slot:
            self._own.free(admission.slot)


def _part(charge: Charge, replicas: int) -> Charge:
    limit, burst = (math.ceil(one / replicas) for one in (charge.limit, charge.burst))
    part = replace(charge, limit=limit, burst=burst)
    return replace(part, cost=min(charge.cost, part.capacity))
