"""Pods that fail again and again are left alone for a while, and then tried again.

failures in a row ─▶ out for 5 s ─▶ back ─ one more failure ─▶ out for 10 s ─▶ ... at most 60 s
                                     └─ an answer ─▶ as if nothing had been
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

_FAILURES_IN_A_ROW = 3
_FIRST_SECONDS = 5.0
_LONGEST_SECONDS = 60.0
# Beyond it it is not the pods that are ill, and those that are left would have all the work.
_MOST_OUT = 0.5


@dataclass(slots=True)
class _Record:
    failures: int = 0
    times_out: int = 0
    out_until: float = 0.0


class Outliers[P: Hashable]:
    def __init__(self) -> None:
        self._records: dict[P, _Record] = {}

    def note(self, pod: P, *, is_well: bool, now: float) -> None:
        """How a request went, as far as it was up to the pod."""
        if is_well:
            self._records.pop(pod, None)
            return
        record = self._records.setdefault(pod, _Record())
        if now < record.out_until:  # one that was sent before
            return
        record.failures += 1
        if record.failures >= _FAILURES_IN_A_ROW or record.times_out:
            seconds = min(_FIRST_SECONDS * 2**record.times_out, _LONGEST_SECONDS)
            record.out_until = now + seconds
            record.times_out = min(record.times_out + 1, 8)
            record.failures = 0

    def is_out(self, pod: P, now: float) -> bool:
        record = self._records.get(pod)
        return record is not None and now < record.out_until

    def keep(self, pods: Iterable[P]) -> None:
        """Forgets all others."""
        kept = set(pods)
        self._records = {pod: record for pod, record in self._records.items() if pod in kept}

    def usable(self, pods: Iterable[P], now: float) -> list[P]:
        """Those that are not out; all, if too many would be."""
        every = list(pods)
        if not self._records:
            return every
        well = [pod for pod in every if not self.is_out(pod, now)]
        return well if len(every) - len(well) <= _MOST_OUT * len(every) else every
