"""How long to hold a batch open: not at all, unless more is likely to come soon enough."""

from collections import deque

# Gaps between arrivals that are remembered, and how many must be known before anybody waits.
_MOST_GAPS = 64
_FEWEST_GAPS = 8


class ArrivalWindow:
    """Learns how arrivals follow each other. All times are seconds of one clock.

    Whoever is first in a batch gains nothing by waiting; the one who comes next does, since
    otherwise it waits until the batch is done. So a batch is held open for `wait` seconds if

        chance that one comes by then x time that it saves  >  wait x inputs that wait for it

    The chance is the share of the remembered gaps, of those longer than what has passed since the
    last arrival. When arrivals are rare it is nearly nothing, and after a burst it falls to nothing
    as soon as the burst is over.
    """

    def __init__(self, max_wait_seconds: float) -> None:
        self._max_wait = max_wait_seconds
        self._gaps: deque[float] = deque(maxlen=_MOST_GAPS)
        self._last: float | None = None

    def note_arrival(self, at: float) -> None:
        if self._last is not None:
            self._gaps.append(max(0.0, at - self._last))
        self._last = at

    def patience(self, *, now: float, waiting: int, oldest: float, batch_seconds: float) -> float:
        """How much longer to wait; `oldest` is when the first of the waiting ones came."""
        limit = oldest + self._max_wait - now
        if limit <= 0 or self._last is None or len(self._gaps) < _FEWEST_GAPS:
            return 0.0
        elapsed = now - self._last
        possible = sorted(gap - elapsed for gap in self._gaps if gap > elapsed)
        best, patience = 0.0, 0.0
        for count, wait in enumerate(possible, start=1):
            if wait > limit:
                break
            gain = count / len(possible) * max(0.0, batch_seconds - wait) - waiting * wait
            if gain > best:
                best, patience = gain, wait
        return patience
