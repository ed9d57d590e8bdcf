"""Gates as they are stored in `status.rollout.gates`, and back: nothing is lost between."""

from collections.abc import Iterable
from dataclasses import astuple

from modelserver_operator.apis.rollout_status import GateStatus
from modelserver_operator.rollout.dispersion import Dispersion
from modelserver_operator.rollout.gates import Gate, GateName, Outcome, Tests
from modelserver_operator.rollout.power import power_of
from modelserver_operator.rollout.sequential import SequentialTest, Tick


def restored(stored: Iterable[GateStatus]) -> dict[GateName, SequentialTest]:
    return {GateName(gate.name): _test_of(gate) for gate in stored if gate.log_ratios}


def stored_gates(
    gates: Iterable[Gate], tests: Tests, outcomes: Iterable[Outcome]
) -> tuple[GateStatus, ...]:
    """Each with its evidence, and with what its requests could show."""
    said = {outcome.gate: outcome for outcome in outcomes}
    return tuple(
        _stored(gate, tests.get(gate.state, SequentialTest()), said[gate.name]) for gate in gates
    )


def _test_of(stored: GateStatus) -> SequentialTest:
    return SequentialTest(
        total=Tick(
            requests=stored.requests,
            bad=stored.bad,
            baseline_requests=stored.stable_requests,
            baseline_bad=stored.stable_bad,
        ),
        step_requests=stored.step_requests,
        ticks=stored.ticks,
        bad_ticks=stored.bad_ticks,
        waiting=_tick_of(stored.waiting),
        dispersion=_dispersion_of(stored),
        log_ratios=stored.log_ratios,
    )


def _dispersion_of(stored: GateStatus) -> Dispersion:
    if not stored.last_stable:
        return Dispersion()
    requests, bad = stored.last_stable
    return Dispersion(
        mean=stored.dispersion, pairs=stored.dispersion_pairs, requests=requests, bad=bad
    )


def _tick_of(waiting: tuple[int, ...]) -> Tick:
    if not waiting:
        return Tick()
    requests, bad, baseline_requests, baseline_bad = waiting
    return Tick(
        requests=requests,
        bad=bad,
        baseline_requests=baseline_requests,
        baseline_bad=baseline_bad,
    )


def _stored(gate: Gate, test: SequentialTest, outcome: Outcome) -> GateStatus:
    """The bound on errors has no test of its own, and stores no ratios."""
    has_test = gate.state is gate.name
    power = power_of(gate, test)
    dispersion = test.dispersion if has_test else Dispersion()
    return GateStatus(
        name=gate.name,
        outcome=outcome.verdict,
        requests=test.total.requests,
        bad=test.total.bad,
        stable_requests=test.total.baseline_requests,
        stable_bad=test.total.baseline_bad,
        step_requests=test.step_requests,
        ticks=test.ticks if has_test else 0,
        bad_ticks=test.bad_ticks if has_test else 0,
        waiting=astuple(test.waiting) if has_test and test.waiting != Tick() else (),
        dispersion=dispersion.mean,
        dispersion_pairs=dispersion.pairs,
        last_stable=(dispersion.requests, dispersion.bad) if dispersion.requests else (),
        log_ratios=test.log_ratios if has_test else (),
        message=f"{outcome.message}; {power.message}" if power else outcome.message,
    )
