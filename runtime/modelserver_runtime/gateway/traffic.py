"""What each model was asked here, and how it was answered: for Prometheus, and for the page.

Totals since the process began, and the last two minutes in slots of five seconds.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from modelserver_runtime.gateway.cluster import Directory, ServerKey
from modelserver_runtime.gateway.counts import EDGES_SECONDS, Histogram

SLOT_SECONDS = 5.0
SLOTS = 24
# Rates and latencies are those of the last minute, so that one slow answer is soon forgotten.
_WINDOW = 12
# Classes of answers beside 2xx to 5xx: the client left before any, or the pod ended within one.
NO_ANSWER, BROKEN = "none", "broken"
_FAILED = frozenset({"5xx", BROKEN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """Of the last minute; `history` are requests by full slot of two minutes, the oldest first.

    Latencies last from the request to the end of its answer, and are None where nothing was
    answered.
    """

    per_second: float = 0.0
    in_flight: int = 0
    answered: int = 0
    failed: int = 0
    p50_seconds: float | None = None
    p95_seconds: float | None = None
    history: tuple[int, ...] = (0,) * SLOTS


class _Slot:
    __slots__ = ("answered", "failed", "latency", "number", "requests")

    def __init__(self, number: int) -> None:
        self.number = number
        self.requests = self.answered = self.failed = 0
        self.latency = Histogram()


class ModelTraffic:
    """Of one model. `clock` is monotonic; nothing was counted before `began`."""

    def __init__(self, clock: Callable[[], float], began: float) -> None:
        self.classes: Counter[str] = Counter()
        self.latency = Histogram()
        self.in_flight = 0
        self._clock = clock
        self._began = began
        self._slots: deque[_Slot] = deque(maxlen=SLOTS + 1)  # with the one that is not full yet

    def begin(self) -> "Call":
        now = self._clock()
        self.in_flight += 1
        self._slot(now).requests += 1
        return Call(self, now)

    def note(self, kind: str, seconds: float, now: float) -> None:
        """The end of a request; the time of one that nobody waited for says nothing."""
        self.in_flight -= 1
        self.classes[kind] += 1
        if kind == NO_ANSWER:
            return
        slot = self._slot(now)
        slot.answered += 1
        slot.failed += kind in _FAILED
        slot.latency.observe(seconds)
        self.latency.observe(seconds)

    def recent(self) -> Recent:
        now = self._clock()
        newest = _number(now)
        window = [slot for slot in self._slots if slot.number > newest - _WINDOW]
        buckets = _summed([slot.latency.buckets for slot in window])
        by_number = {slot.number: slot.requests for slot in self._slots}
        return Recent(
            per_second=sum(slot.requests for slot in window) / self._covered(now),
            in_flight=self.in_flight,
            answered=sum(slot.answered for slot in window),
            failed=sum(slot.failed for slot in window),
            p50_seconds=quantile(buckets, 0.5),
            p95_seconds=quantile(buckets, 0.95),
            history=tuple(by_number.get(newest - SLOTS + index, 0) for index in range(SLOTS)),
        )

    def _covered(self, now: float) -> float:
        """Seconds that the window has: its last slot is not full, and the process may be young."""
        full = (_WINDOW - 1) * SLOT_SECONDS + now % SLOT_SECONDS
        return max(SLOT_SECONDS, min(full, now - self._began))

    def _slot(self, now: float) -> _Slot:
        number = _number(now)
        if not self._slots or self._slots[-1].number != number:
            self._slots.append(_Slot(number))
        return self._slots[-1]


class Call:
    """One request on its way."""

    __slots__ = ("_began", "_traffic", "is_broken")

    def __init__(self, traffic: ModelTraffic, began: float) -> None:
        self.is_broken = False
        self._traffic = traffic
        self._began = began

    def end(self, status: int, now: float) -> None:
        """`status` is what the client was told, 0 where it was told nothing."""
        kind = NO_ANSWER if status == 0 else f"{status // 100}xx"
        self._traffic.note(BROKEN if self.is_broken else kind, now - self._began, now)


class Traffic:
    """Of all models that are there and were asked."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.began = clock()
        self.models: dict[ServerKey, ModelTraffic] = {}

    def begin(self, key: ServerKey) -> Call:
        known = self.models.get(key)
        if known is None:
            known = self.models[key] = ModelTraffic(self.clock, self.began)
        return known.begin()

    def recent(self, key: ServerKey) -> Recent:
        known = self.models.get(key)
        return known.recent() if known else Recent()

    def follow(self, directory: Directory) -> None:
        """Forgets the servers that are gone."""
        for key in set(self.models) - set(directory.servers):
            del self.models[key]


def quantile(buckets: Sequence[int], share: float) -> float | None:
    """Within the bucket as if its times were spread evenly, as Prometheus has it; None of none."""
    total = sum(buckets)
    rank, below = share * total, 0
    edges = pairwise((0.0, *EDGES_SECONDS))
    for count, (low, high) in zip(buckets, edges, strict=False):
        if count and below + count >= rank:
            return low + (high - low) * (rank - below) / count
        below += count
    return float(EDGES_SECONDS[-1]) if total else None


def _number(now: float) -> int:
    return int(now // SLOT_SECONDS)


def _summed(rows: Sequence[Sequence[int]]) -> list[int]:
    return [sum(column) for column in zip(*rows, strict=True)]
