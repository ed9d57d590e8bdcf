"""What decides between going on and rolling back: each gate passes, fails, or cannot know yet.

Every gate counts requests of which some are bad. It fails on evidence, and only on evidence: having
too little of it holds the rollout where it is, and is neither a failure nor a success.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from modelserver_operator.apis.rollout import Analysis, LatencyGate, Shadow
from modelserver_operator.apis.rollout_status import GateOutcome
from modelserver_operator.rollout.binomial import lower_bound
from modelserver_operator.rollout.counts import Counts
from modelserver_operator.rollout.sequential import SequentialTest, Tick, evidence_needed

# From a tenth of the evidence that fails it a revision gets no more traffic until it looks better
# again: one that is healthy is held up in vain with a tenfold of its probability to be failed.
SUSPICION = 0.1


class GateName(StrEnum):
    """As in `status.rollout.gates`."""

    ERRORS = "errors"
    MAX_ERRORS = "maxErrorPercent"
    LATENCY = "latency"
    FIRST_TOKEN = "timeToFirstToken"  # noqa: S105  of text
    TOKEN_GAPS = "interTokenTime"  # noqa: S105  of text
    SHADOW = "disagreement"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    name: GateName
    min_requests: int
    """At this step, of the new revision; in what the gate counts: streams, tokens, pairs."""
    alpha: float = 0.0
    """How probable it may be that it fails a healthy revision; 0 if it fails none."""
    margin_percent: int = 0
    max_percent: int = 0
    """Of MAX_ERRORS."""

    @property
    def state(self) -> GateName:
        """Under which name its counts are kept."""
        return GateName.ERRORS if self.name is GateName.MAX_ERRORS else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    gate: GateName
    verdict: GateOutcome
    message: str
    """A sentence with the numbers."""


type Tests = Mapping[GateName, SequentialTest]


def gates_of(analysis: Analysis, shadow: Shadow | None = None) -> tuple[Gate, ...]:
    """Those of a run. `falseAlarmPercent` is divided among the gates that can fail a revision.

    Errors are counted even where they decide nothing, for `minSamples` and to be shown.
    """
    margins = _margins(analysis, shadow)
    deciding = len(margins) + (analysis.max_error_percent > 0)
    alpha = analysis.false_alarm_percent / 100 / max(deciding, 1)
    gates = [
        Gate(
            name=name,
            min_requests=_fewest(name, analysis, shadow),
            alpha=alpha,
            margin_percent=margin,
        )
        for name, margin in margins.items()
    ]
    if analysis.max_error_percent:
        gates.append(_absolute(analysis, alpha))
    if GateName.ERRORS not in margins:
        gates.insert(0, Gate(name=GateName.ERRORS, min_requests=analysis.min_samples))
    return tuple(gates)


def advanced(
    gates: Iterable[Gate], tests: Tests, growth: Mapping[GateName, Tick], *, alone: bool = False
) -> dict[GateName, SequentialTest]:
    """Every test after this tick. `alone`: stable gets no requests, its past is compared."""
    after = dict(tests)
    for gate in gates:
        tick = growth.get(gate.name)
        if tick is None:
            continue
        test = after.get(gate.name, SequentialTest())
        step = test.after_alone if alone else test.after
        after[gate.name] = step(tick, margin_percent=gate.margin_percent)
    return after


def ticks_of(new: Counts, stable: Counts) -> dict[GateName, Tick]:
    """What the gates count of the answers to clients."""
    return {
        GateName.ERRORS: _tick(new.requests, new.errors, stable.requests, stable.errors),
        GateName.LATENCY: _tick(new.requests, new.slow, stable.requests, stable.slow),
        GateName.FIRST_TOKEN: _tick(new.streams, new.slow_first, stable.streams, stable.slow_first),
        GateName.TOKEN_GAPS: _tick(new.gaps, new.slow_gaps, stable.gaps, stable.slow_gaps),
    }


def shadow_ticks(pairs: Counts, repeated: Counts) -> dict[GateName, Tick]:
    """Of the new revision with stable, and of stable with itself.

    Compared pairs are in `requests`, those that disagree in `errors`.
    """
    tick = _tick(pairs.requests, pairs.errors, repeated.requests, repeated.errors)
    return {GateName.SHADOW: tick}


def judged(
    gates: Iterable[Gate], tests: Tests, *, slow_above: Mapping[GateName, float] | None = None
) -> tuple[Outcome, ...]:
    """`slow_above`: the edges in seconds beyond which a request counts as slow, to be told."""
    edges = slow_above or {}
    return tuple(
        _outcome(gate, tests.get(gate.state, SequentialTest()), edges.get(gate.name, 0.0))
        for gate in gates
    )


def verdict_of(outcomes: Iterable[Outcome]) -> GateOutcome:
    """One failure fails; one that cannot know yet holds."""
    verdicts = {outcome.verdict for outcome in outcomes}
    for verdict in (GateOutcome.FAILING, GateOutcome.UNDECIDED):
        if verdict in verdicts:
            return verdict
    return GateOutcome.PASSING


def _margins(analysis: Analysis, shadow: Shadow | None) -> dict[GateName, int]:
    """Of the gates that compare both revisions."""
    compared: dict[GateName, LatencyGate | None] = {
        GateName.LATENCY: analysis.latency,
        GateName.FIRST_TOKEN: analysis.time_to_first_token,
        GateName.TOKEN_GAPS: analysis.inter_token_time,
    }
    errors = {GateName.ERRORS: analysis.errors} | compared
    margins = {name: gate.margin_percent for name, gate in errors.items() if gate and gate.enabled}
    return margins | ({GateName.SHADOW: shadow.margin_percent} if shadow else {})


def _fewest(name: GateName, analysis: Analysis, shadow: Shadow | None) -> int:
    return shadow.min_pairs if shadow and name is GateName.SHADOW else analysis.min_samples


def _absolute(analysis: Analysis, alpha: float) -> Gate:
    return Gate(
        name=GateName.MAX_ERRORS,
        min_requests=analysis.min_samples,
        alpha=alpha,
        max_percent=analysis.max_error_percent,
    )


def _tick(requests: int, bad: int, baseline_requests: int, baseline_bad: int) -> Tick:
    return Tick(
        requests=requests,
        bad=bad,
        baseline_requests=baseline_requests,
        baseline_bad=baseline_bad,
    )


def _outcome(gate: Gate, test: SequentialTest, slow_above: float) -> Outcome:
    if gate.name is GateName.MAX_ERRORS:
        verdict, evidence = _bounded(gate, test)
    else:
        verdict, evidence = _compared(gate, test)
    seen = _seen(gate, test.total, slow_above)
    if test.step_requests < gate.min_requests and verdict is not GateOutcome.FAILING:
        missing = _few(gate, test)
        return Outcome(gate=gate.name, verdict=GateOutcome.UNDECIDED, message=f"{missing}; {seen}")
    return Outcome(gate=gate.name, verdict=verdict, message=f"{seen}{evidence}")


def _compared(gate: Gate, test: SequentialTest) -> tuple[GateOutcome, str]:
    if not gate.alpha:
        return GateOutcome.PASSING, ""
    needed = evidence_needed(gate.alpha)
    found = f"; evidence {_rounded(test.evidence)}, needed {_rounded(needed)}"
    if test.rejects(gate.alpha):
        return GateOutcome.FAILING, found
    if not test.total.baseline_requests:
        return GateOutcome.UNDECIDED, "; there is nothing of the stable revision to compare with"
    if test.evidence >= SUSPICION * needed:
        return GateOutcome.UNDECIDED, f"{found}: more requests must show whether this is chance"
    return GateOutcome.PASSING, found


def _bounded(gate: Gate, test: SequentialTest) -> tuple[GateOutcome, str]:
    """Fails when even the lower bound of the rate is above what is allowed."""
    lowest = 100 * lower_bound(test.total.bad, test.total.requests, risk=gate.alpha)
    found = f"; the rate is at least {lowest:.2f} %, at most {gate.max_percent} % is allowed"
    is_exceeded = lowest > gate.max_percent
    return (GateOutcome.FAILING if is_exceeded else GateOutcome.PASSING), found


def _few(gate: Gate, test: SequentialTest) -> str:
    counted = _COUNTED[gate.name]
    return f"{test.step_requests} of at least {gate.min_requests} {counted} at this step"


_COUNTED = {
    GateName.ERRORS: "requests",
    GateName.MAX_ERRORS: "requests",
    GateName.LATENCY: "requests",
    GateName.FIRST_TOKEN: "streams",
    GateName.TOKEN_GAPS: "times between tokens",
    GateName.SHADOW: "compared pairs",
}
_BAD = {
    GateName.ERRORS: "requests failed",
    GateName.MAX_ERRORS: "requests failed",
    GateName.LATENCY: "requests were slow",
    GateName.FIRST_TOKEN: "streams began late",
    GateName.TOKEN_GAPS: "tokens came late",
    GateName.SHADOW: "answers differed from the stable revision's",
}


def _seen(gate: Gate, total: Tick, slow_above: float) -> str:
    """`12 of 600 requests failed against 10 of 5400 at the stable revision (10.8 times as …)`."""
    edge = f" (over {1000 * slow_above:g} ms)" if slow_above else ""
    seen = f"{total.bad} of {total.requests} {_BAD[gate.name]}{edge}"
    if gate.name is GateName.MAX_ERRORS:
        return seen
    against = f"{total.baseline_bad} of {total.baseline_requests}"
    where = "when it was asked twice" if gate.name is GateName.SHADOW else "at the stable revision"
    return f"{seen} against {against} {where}{_ratio(total)}"


def _ratio(total: Tick) -> str:
    if not total.requests or not total.baseline_requests:
        return ""
    rate = total.bad / total.requests
    baseline = total.baseline_bad / total.baseline_requests
    percents = f"{rate:.2%} against {baseline:.2%}".replace("%", " %")
    return (
        f" ({rate / baseline:.1f} times as often at {percents})" if baseline else f" ({percents})"
    )


def _rounded(evidence: float) -> str:
    """Whole from 100 on; no digits that say nothing."""
    if evidence >= 1e6:  # noqa: PLR2004  a million
        return f"{evidence:.0e}"
    return f"{evidence:.0f}" if evidence >= 100 else f"{evidence:.2g}"  # noqa: PLR2004  whole
