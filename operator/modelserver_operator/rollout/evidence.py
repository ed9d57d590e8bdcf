"""What was counted since the last look, and what the gates make of it."""

from collections.abc import Iterable
from dataclasses import astuple, fields, replace

from modelserver_operator.apis.rollout import WHOLE, RolloutSpec
from modelserver_operator.apis.rollout_status import (
    MOST_SOURCES,
    Edges,
    GateOutcome,
    GateStatus,
    RevisionMetrics,
    Rollout,
    RolloutPhase,
)
from modelserver_operator.rollout import clocks
from modelserver_operator.rollout.counts import Counts, Reading, RequestGrowth, growth_of
from modelserver_operator.rollout.frozen import analysis_of, is_swap
from modelserver_operator.rollout.gates import (
    Gate,
    GateName,
    advanced,
    gates_of,
    judged,
    shadow_ticks,
    ticks_of,
)
from modelserver_operator.rollout.scene import Scene
from modelserver_operator.rollout.sequential import SequentialTest, Tick
from modelserver_operator.rollout.stored_gates import restored, stored_gates

_COUNTING = {
    RolloutPhase.PREPARING,
    RolloutPhase.PREFLIGHT,
    RolloutPhase.SHADOWING,
    RolloutPhase.STEPPING,
    RolloutPhase.ANALYZING,
    RolloutPhase.PROMOTING,
    RolloutPhase.BAKING,
}


def is_counting(run: Rollout) -> bool:
    """Whether requests are to be counted. A swap has nothing to compare with."""
    return run.phase in _COUNTING and not is_swap(run)


def counted(scene: Scene) -> Rollout:
    """The increments and the base of the next ones, in the same status: nothing counts twice."""
    run, answers = scene.run, scene.sight.answers
    if answers is None or not is_counting(run):
        return run
    requests = _growth(run.readings, answers.readings, scene)
    copies = _growth(run.copies, answers.copies, scene)
    edges = run.edges or answers.edges
    tests = _tests(scene, requests, copies)
    gates = _gates(run, scene.rules)
    outcomes = judged(gates, tests, slow_above=_slow_above(edges))
    stored = stored_gates(gates, tests, outcomes)
    stable = run.step_stable_requests + requests.counts.get(run.from_, Counts()).requests
    return run.model_copy(
        update={
            "edges": edges,
            "counted_at": clocks.timestamp(scene.now),
            "readings": _stored(requests.base),
            "copies": _stored(copies.base),
            "gates": stored,
            "step_stable_requests": stable,
            "comparison": _comparison(run, stored),
            "weights": _observed(run, stored, stable),
        }
    )


def at_next_step(gates: Iterable[GateStatus]) -> tuple[GateStatus, ...]:
    """A step has to bring its own requests; the evidence goes on."""
    return tuple(gate.model_copy(update={"step_requests": 0}) for gate in gates)


def failing(run: Rollout) -> GateStatus | None:
    return next((gate for gate in run.gates if gate.outcome is GateOutcome.FAILING), None)


def undecided(run: Rollout) -> tuple[GateStatus, ...]:
    """Those that the present phase waits for."""
    is_shadow = run.phase is RolloutPhase.SHADOWING
    awaited = (gate for gate in run.gates if (gate.name == GateName.SHADOW) is is_shadow)
    return tuple(gate for gate in awaited if gate.outcome is GateOutcome.UNDECIDED)


def has_enough(gate: GateStatus, rules: RolloutSpec) -> bool:
    """Whether the gate waits for something else than requests."""
    gates = gates_of(analysis_of(rules), rules.shadow)
    fewest = next((one.min_requests for one in gates if one.name == gate.name), 0)
    return gate.step_requests >= fewest


def _gates(run: Rollout, rules: RolloutSpec) -> tuple[Gate, ...]:
    """While the new revision bakes no number of requests is asked for: its steps had theirs."""
    gates = gates_of(analysis_of(rules), rules.shadow)
    if run.phase is not RolloutPhase.BAKING:
        return gates
    return tuple(replace(gate, min_requests=0) for gate in gates)


def _growth(stored: Iterable[str], readings: Iterable[Reading], scene: Scene) -> RequestGrowth:
    run = scene.run
    base = [_reading(one) for one in stored]
    since = clocks.parse(run.counted_at or run.start_time)
    return growth_of(base, _sampled(readings, base, run), since=since)


def _sampled(readings: Iterable[Reading], base: Iterable[Reading], run: Rollout) -> list[Reading]:
    """Of each revision as many as are stored, those first that were read before."""
    known = {one.key for one in base}
    kept: list[Reading] = []
    for one in sorted(readings, key=lambda reading: (reading.key not in known, reading.key)):
        is_room = sum(other.revision == one.revision for other in kept) < MOST_SOURCES
        if one.revision in {run.from_, run.to} and is_room:
            kept.append(one)
    return kept


def _tests(
    scene: Scene, requests: RequestGrowth, copies: RequestGrowth
) -> dict[GateName, SequentialTest]:
    run = scene.run
    gates, before = gates_of(analysis_of(scene.rules), scene.rules.shadow), restored(run.gates)
    old, new = (requests.counts.get(one, Counts()) for one in (run.from_, run.to))
    if not max(run.weights.intended, run.weights.confirmed):
        new = Counts()  # questions of the preflight
    ticks = dict(ticks_of(new, old))
    if run.phase is RolloutPhase.SHADOWING:
        pairs, repeated = (copies.counts.get(one, Counts()) for one in (run.to, run.from_))
        ticks |= shadow_ticks(pairs, repeated)
    wanted = {gate.name for gate in gates}
    growth: dict[GateName, Tick] = {name: ticks[name] for name in ticks if name in wanted}
    return advanced(gates, before, growth, alone=_is_alone(run))


def _is_alone(run: Rollout) -> bool:
    """Stable gets no requests any more, as every router has said."""
    return run.weights.intended == WHOLE and run.weights.confirmed_at is not None


def _slow_above(edges: Edges | None) -> dict[GateName, float]:
    if edges is None:
        return {}
    milliseconds = {
        GateName.LATENCY: edges.latency,
        GateName.FIRST_TOKEN: edges.first_token,
        GateName.TOKEN_GAPS: edges.token_gap,
    }
    return {name: edge / 1000 for name, edge in milliseconds.items() if edge}


def _reading(stored: str) -> Reading:
    source, revision, values = stored.split("/")
    numbers = map(int, filter(None, values.split(",")))
    names = (one.name for one in fields(Counts))
    counts = Counts(**dict(zip(names, numbers, strict=False)))
    return Reading(source=source, revision=revision, counts=counts)


def _stored(readings: Iterable[Reading]) -> tuple[str, ...]:
    return tuple(f"{one.source}/{one.revision}/{_values(one.counts)}" for one in readings)


def _values(counts: Counts) -> str:
    """Without zeros at the end."""
    values = list(astuple(counts))
    while values and values[-1] == 0:
        values.pop()
    return ",".join(map(str, values))


def _observed(run: Rollout, gates: Iterable[GateStatus], stable: int) -> object:
    """The share of all requests of this step, once there are any."""
    new = next((gate.step_requests for gate in gates if gate.name == GateName.ERRORS), 0)
    if run.weights.confirmed_at is None or not new + stable:
        return run.weights
    percent = f"{WHOLE * new / (new + stable):.1f}"
    return run.weights.model_copy(update={"observed_percent": percent})


_SHOWN = {
    GateName.ERRORS: "errors_percent",
    GateName.LATENCY: "slow_percent",
    GateName.FIRST_TOKEN: "slow_first_percent",
    GateName.TOKEN_GAPS: "slow_gap_percent",
}


def _comparison(run: Rollout, gates: Iterable[GateStatus]) -> tuple[RevisionMetrics, ...]:
    """The new revision and the old one, in the same words."""
    new: dict[str, object] = {"revision": run.to}
    old: dict[str, object] = {"revision": run.from_}
    for gate in gates:
        name = GateName(gate.name)
        if name is GateName.ERRORS:
            new["requests"], old["requests"] = gate.requests, gate.stable_requests
        if field := _SHOWN.get(name):
            new[field] = _percent(gate.bad, gate.requests)
            old[field] = _percent(gate.stable_bad, gate.stable_requests)
    return RevisionMetrics.model_validate(old), RevisionMetrics.model_validate(new)


def _percent(part: int, whole: int) -> str:
    return f"{WHOLE * part / whole:.2f}" if whole else ""
