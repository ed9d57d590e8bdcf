"""What came of the cases: counts, and the first failures, small enough for the operator."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# The kubelet keeps 4096 bytes of what a container says at its end, of all containers together.
_MOST_BYTES = 3500


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """`complaint` says why the case failed; "" if it passed."""

    name: str
    complaint: str
    milliseconds: float = 0.0

    @property
    def has_passed(self) -> bool:
        return not self.complaint

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "passed": self.has_passed,
            "milliseconds": round(self.milliseconds, 1),
            "message": self.complaint,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    outcomes: tuple[Outcome, ...]
    min_pass_percent: int

    @property
    def passed(self) -> int:
        return sum(outcome.has_passed for outcome in self.outcomes)

    @property
    def total(self) -> int:
        return len(self.outcomes)

    @property
    def has_passed(self) -> bool:
        """In whole numbers, so that 2 of 3 are not 67 percent."""
        return self.passed * 100 >= self.min_pass_percent * self.total

    @property
    def counts(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "failed": self.total - self.passed,
            "total": self.total,
            "minPassPercent": self.min_pass_percent,
        }

    def as_message(self) -> Mapping[str, Any]:
        """As many of the failures as fit, the first ones first."""
        failures: list[dict[str, str]] = []
        for outcome in self._failed():
            one = {"name": outcome.name, "message": outcome.complaint}
            if _size({**self.counts, "failures": [*failures, one]}) > _MOST_BYTES:
                break
            failures.append(one)
        return {**self.counts, "failures": failures}

    def as_json(self) -> dict[str, Any]:
        return {**self.counts, "cases": [outcome.as_json() for outcome in self.outcomes]}

    def lines(self) -> Iterator[str]:
        verdict = "enough" if self.has_passed else "not enough"
        yield (
            f"{self.passed} of {self.total} cases passed, {verdict}: {self.min_pass_percent} % must"
        )
        yield from _lines_of(self._failed())

    def _failed(self) -> Iterator[Outcome]:
        return (outcome for outcome in self.outcomes if not outcome.has_passed)


def _lines_of(outcomes: Iterable[Outcome]) -> Iterator[str]:
    return (f"failed: {outcome.name}: {outcome.complaint}" for outcome in outcomes)


def _size(content: Mapping[str, Any]) -> int:
    return len(json.dumps(content).encode())
