"""Limits that hold for one replica. Nothing here waits, so requests cannot come in between."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from modelserver_runtime.access.limits.charge import Charge, Decision, Slot, Verdict
from modelserver_runtime.access.limits.meters import Meter, make_meter, slot_verdict

# A stranger can have many addresses; a meter is below a kilobyte, so all together take 50 MB.
_MOST_METERS = 50_000
# Idle meters are looked for this often, in admissions.
_SWEEP_EVERY = 1000


class MemoryLimits:
    """Every `now` is a reading of one monotonic clock, in seconds."""

    def __init__(self, *, most_meters: int = _MOST_METERS) -> None:
        self._most_meters = most_meters
        self._meters: OrderedDict[str, Meter] = OrderedDict()
        self._slots: dict[str, dict[str, float]] = {}
        self._admissions = 0

    def admit(self, charges: Sequence[Charge], slot: Slot | None, now: float) -> Decision:
        """Takes from all, or from none."""
        self._sweep(now)
        pairs = [(charge, self._meter(charge)) for charge in charges]
        verdicts = [meter.look(charge, now) for charge, meter in pairs]
        verdicts += [self._look_at_slot(slot, now)] if slot else []
        if any(verdict.wait_seconds > 0 for verdict in verdicts):
            return Decision(verdicts=verdicts, stamp=now)
        for charge, meter in pairs:
            meter.take(charge, now)
        if slot:
            self._slots.setdefault(slot.subject, {})[slot.holder] = now + slot.longest_seconds
        left = [meter.look(replace(charge, cost=0), now) for charge, meter in pairs]
        return Decision(verdicts=[*left, *verdicts[len(pairs) :]], stamp=now)

    def correct(self, charge: Charge, delta: int, *, stamp: float, now: float) -> None:
        if delta:
            self._meter(charge).correct(charge, delta, stamp, now)

    def free(self, slot: Slot) -> None:
        holders = self._slots.get(slot.subject, {})
        holders.pop(slot.holder, None)
        if not holders:
            self._slots.pop(slot.subject, None)

    def _look_at_slot(self, slot: Slot, now: float) -> Verdict:
        holders = self._slots.get(slot.subject, {})
        for holder in [one for one, until in holders.items() if until <= now]:
            del holders[holder]
        return slot_verdict(slot.subject, slot.limit, len(holders))

    def _meter(self, charge: Charge) -> Meter:
        """A changed limit of a key goes on with what was used; another algorithm begins anew."""
        meter = self._meters.get(charge.name)
        if meter is None:
            meter = self._meters[charge.name] = make_meter(charge.algorithm)
        self._meters.move_to_end(charge.name)
        return meter

    def _sweep(self, now: float) -> None:
        """Idle meters go; if there are still too many, those that were used longest ago."""
        self._admissions += 1
        if self._admissions % _SWEEP_EVERY and len(self._meters) <= self._most_meters:
            return
        for name in [name for name, meter in self._meters.items() if meter.is_idle(now)]:
            del self._meters[name]
        while len(self._meters) > self._most_meters:
            self._meters.popitem(last=False)
