"""What became of every request."""

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from statistics import median

from bench.soaking.marks import Verdict

_KEPT_SENTENCES = 30
_WINDOW_SECONDS = 60.0


class Fault(StrEnum):
    LOST = "lost"
    SWAPPED = "swapped"
    WRONG = "wrong"
    DUPLICATED = "duplicated"
    UNEXPECTED_STATUS = "unexpected_status"


_FAULTS = {Verdict.SWAPPED: Fault.SWAPPED, Verdict.WRONG: Fault.WRONG}


class Tally:
    """Counts everything; keeps a sentence about the first faults."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.caches: Counter[str] = Counter()
        self.faults: Counter[Fault] = Counter()
        self.sentences: list[str] = []
        self._seen: set[str] = set()

    def fault(self, fault: Fault, sentence: str) -> None:
        self.faults[fault] += 1
        if len(self.sentences) < _KEPT_SENTENCES:
            self.sentences.append(f"{fault}: {sentence}")

    def note_verdict(self, kind: str, verdict: Verdict, answer: object) -> None:
        if verdict is not Verdict.RIGHT:
            self.fault(_FAULTS[verdict], f"{kind}: {str(answer)[:200]}")

    def note_id(self, kind: str, answer_id: str) -> None:
        """Every answer has an id of its own."""
        if answer_id in self._seen:
            self.fault(Fault.DUPLICATED, f"{kind}: {answer_id}")
        self._seen.add(answer_id)


class AdmissionLog:
    """When a key with a limit was let in, as its client saw it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._admitted: list[tuple[float, float]] = []

    def note(self, sent: float, answered: float) -> bool:
        """False if more than the limit were certainly let in within one minute."""
        self._admitted.append((sent, answered))
        recent = self._admitted[-self._limit - 1 :]
        return len(recent) <= self._limit or recent[-1][1] - recent[0][0] >= _WINDOW_SECONDS


class MemoryCurve:
    """Resident megabytes over time; the first quarter is warm-up."""

    def __init__(self) -> None:
        self._points: list[tuple[float, float]] = []

    def note(self, seconds: float, megabytes: float) -> None:
        self._points.append((seconds, megabytes))

    def figures(self) -> Mapping[str, float]:
        """Growth is the median of the last tenth, over that of the first tenth after warm-up."""
        warm = self._points[len(self._points) // 4 :]
        tenth = max(1, len(warm) // 10)
        begin = median(size for _, size in warm[:tenth])
        end = median(size for _, size in warm[-tenth:])
        return {
            "soak_memory_after_warm_up_megabytes": round(begin, 1),
            "soak_memory_at_end_megabytes": round(end, 1),
            "soak_memory_growth_megabytes": round(end - begin, 1),
            "soak_memory_slope_megabytes_per_hour": round(3600 * self._slope(warm), 1),
        }

    @staticmethod
    def _slope(points: list[tuple[float, float]]) -> float:
        """By least squares, megabytes per second."""
        count = len(points)
        mean_time = sum(time for time, _ in points) / count
        mean_size = sum(size for _, size in points) / count
        spread = sum((time - mean_time) ** 2 for time, _ in points)
        joint = sum((time - mean_time) * (size - mean_size) for time, size in points)
        return joint / spread if spread else 0.0
