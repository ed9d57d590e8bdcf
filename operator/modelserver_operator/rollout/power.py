"""What a gate could see with the requests it has: no rejection is not the same as no regression."""

import math
from dataclasses import dataclass

from modelserver_operator.rollout.binomial import divergence
from modelserver_operator.rollout.gates import Gate, GateName
from modelserver_operator.rollout.sequential import GRID, SequentialTest, evidence_needed

# The regression for which missing requests are told: below it few would roll back in a hurry.
WANTED_TIMES = 3.0

# The regressions that are told: finer steps would feign a precision that an average has not.
TIMES = (1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    detectable_times: float | None
    """How many times as frequent bad requests must be to be detected; None if none of TIMES is."""
    more_requests: int | None
    """Of the new revision until WANTED_TIMES would be detected; None if there cannot be so many."""
    message: str


def power_of(gate: Gate, test: SequentialTest) -> Power | None:
    """None of gates that compare nothing, and while there is nothing to reckon with.

    Reckoned with the share that the new revision had of all requests so far, with bursts as large
    as stable's, and with stable's rate; as long as nothing bad happened there, as if one had been.
    """
    total = test.total
    if not gate.alpha or gate.name is GateName.MAX_ERRORS:
        return None
    if not total.requests or not total.baseline_requests:
        return None
    return _power(gate, test)


def requests_needed(
    times: float, *, share: float, base_rate: float, margin_percent: int, evidence: float
) -> int | None:
    """Requests of the new revision until, on average, `evidence` is there; None if it is healthy.

    Every bad request, of either revision, adds the divergence of two coins: how probably it is the
    new revision's if bad requests are `times` as frequent there, and if they are at the margin. All
    of the evidence must come from one of the grid's bettors, which holds one part of the wealth.
    """
    healthy = 1 + margin_percent / 100
    if times <= healthy:
        return None
    gain = divergence(_part_of_new(times, share), _part_of_new(healthy, share))
    bad_per_request = base_rate * (times + (1 - share) / share)
    return math.ceil(math.log(evidence * len(GRID)) / (gain * bad_per_request))


def _part_of_new(times: float, share: float) -> float:
    """The probability that a bad request is one of the new revision."""
    return times * share / (times * share + 1 - share)


def _power(gate: Gate, test: SequentialTest) -> Power:
    total = test.total
    seen = [times for times in TIMES if (_needed(times, gate, test) or math.inf) <= total.requests]
    wanted = _needed(WANTED_TIMES, gate, test)
    more = None if wanted is None else max(wanted - total.requests, 0)
    detectable = min(seen, default=None)
    return Power(
        detectable_times=detectable, more_requests=more, message=_message(detectable, more)
    )


def _needed(times: float, gate: Gate, test: SequentialTest) -> int | None:
    total = test.total
    base_rate = max(total.baseline_bad, 1) / total.baseline_requests
    if times * base_rate > 1:
        return None
    needed = requests_needed(
        times,
        share=total.requests / (total.requests + total.baseline_requests),
        base_rate=base_rate,
        margin_percent=gate.margin_percent,
        evidence=evidence_needed(gate.alpha),
    )
    return None if needed is None else math.ceil(needed * test.dispersion.factor)


def _message(detectable: float | None, more: int | None) -> str:
    found = "nothing" if detectable is None else f"{detectable:g} times as often"
    missing = f", {WANTED_TIMES:g} times as often after {more} more requests" if more else ""
    return f"these requests can show {found}{missing}"
