"""What rolls back: the operator's own gate, and fixed thresholds as other controllers have them.

The rules are those that Flagger and Argo Rollouts describe for a success rate of 99 %, looked at
once a minute; not their programs. Flagger: a check fails below the threshold, or when there is no
value; five failed checks, of all that were made, roll back (`threshold: 5` of its examples). Argo
Rollouts: a measurement without a value or below the condition fails, and more than `failureLimit`
of them, 0 by default, abort.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.rolling.scenarios import Look
from bench.rolling.traffic import Drawn, Numbers
from modelserver_operator.apis.rollout import Analysis, LatencyGate
from modelserver_operator.rollout.counts import Counts
from modelserver_operator.rollout.gates import Tests, advanced, gates_of, ticks_of

NEVER = -1

# One gate, so that the whole of falseAlarmPercent (1, the default) is its own.
ANALYSIS = Analysis(latency=LatencyGate(enabled=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedThreshold:
    """Rolls back at the `failures`-th look with more than so many errors."""

    max_error_rate: float
    failures: int
    no_value_fails: bool = True

    def rolled_back_at(self, drawn: Drawn) -> Numbers:
        """The look of each rollout at which it is rolled back, or NEVER."""
        nothing = drawn.requests == 0
        failed = drawn.bad > self.max_error_rate * drawn.requests
        failed = failed | nothing if self.no_value_fails else failed
        reached = np.cumsum(failed, axis=0) >= self.failures
        return np.where(reached.any(axis=0), reached.argmax(axis=0), NEVER)


FLAGGER = FixedThreshold(max_error_rate=0.01, failures=5)
ARGO_ROLLOUTS = FixedThreshold(max_error_rate=0.01, failures=1)


def gate_rolls_back_at(drawn: Drawn, looks: Sequence[Look]) -> Numbers:
    """By the operator's own code, rollout by rollout."""
    alone = [look.weight == 1 for look in looks]
    rollouts = range(drawn.requests.shape[1])
    return np.array([_first_rejection(_ticks(drawn, rollout), alone) for rollout in rollouts])


def _ticks(drawn: Drawn, rollout: int) -> list[tuple[Counts, Counts]]:
    columns = (drawn.requests, drawn.bad, drawn.baseline_requests, drawn.baseline_bad)
    looks = zip(*(column[:, rollout].tolist() for column in columns), strict=True)
    return [
        (Counts(requests=requests, errors=bad), Counts(requests=others, errors=others_bad))
        for requests, bad, others, others_bad in looks
    ]


def _first_rejection(looks: list[tuple[Counts, Counts]], alone: list[bool]) -> int:
    (gate,) = gates_of(ANALYSIS)
    tests: Tests = {}
    for number, (new, stable) in enumerate(looks):
        tests = advanced([gate], tests, ticks_of(new, stable), alone=alone[number])
        if tests[gate.name].rejects(gate.alpha):
            return number
    return NEVER
