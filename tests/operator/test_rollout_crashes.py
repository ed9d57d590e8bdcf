"""Whatever happens in whatever order, and wherever the operator dies, a rollout keeps its word."""

import math
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from modelserver_operator.apis.rollout import (
    Analysis,
    CapacityPolicy,
    RolloutSpec,
    Step,
    Strategy,
)
from modelserver_operator.apis.rollout_status import RolloutPhase as Phase
from modelserver_operator.rollout.capacity import pods_for
from modelserver_operator.rollout.effects import wanted_revision
from modelserver_operator.rollout.frozen import is_swap, rules_of
from modelserver_operator.rollout.machine import decide
from support.rollout_world import FINISHED, A, B, C, World

STEPS = (
    Step(weight_percent=10, hold_seconds=30),
    Step(weight_percent=50, hold_seconds=30),
    Step(weight_percent=100, hold_seconds=0),
)
MIN_SAMPLES = 20
RULES = RolloutSpec(
    strategy=Strategy.CANARY,
    steps=STEPS,
    analysis=Analysis(min_samples=MIN_SAMPLES),
    bake_seconds=60,
)
ROUTED = [Strategy.CANARY, Strategy.BLUE_GREEN, Strategy.HOLD_AND_SWAP]


def course(world: World) -> list[tuple]:
    """The states that a run went through, each once."""
    states = [
        (one.rollout.phase, one.rollout.step_index, one.rollout.weights.intended)
        for one in world.history
        if one.rollout
    ]
    return [
        state for before, state in zip([None, *states], states, strict=False) if state != before
    ]


def finished(world: World, looks: int = 200) -> World:
    world.target = B
    for _ in range(looks):
        if world.phase in FINISHED:
            return world
        world.beat()
    raise AssertionError(f"it does not end: {world.status.rollout}")


def killed_run(strategy: Strategy, *, at_look: int, after_effects: int, is_written: bool) -> World:
    """The operator dies in one look, after so many effects, before or after its write."""
    world = World(RULES.model_copy(update={"strategy": strategy}), target=B)
    for look in range(200):
        if world.phase in FINISHED:
            return world
        if look == at_look:
            world.apply(after_effects)
            if is_written:
                world.store(world.decide())
        world.beat()
    raise AssertionError(f"it does not end: {world.status.rollout}")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [Strategy.CANARY, Strategy.HOLD_AND_SWAP])
def test_a_run_with_a_kill_anywhere_goes_the_same_way_as_one_without(strategy):
    rules = RULES.model_copy(update={"strategy": strategy})
    expected = course(finished(World(rules)))
    for at_look in range(len(expected) * 2):
        for after_effects in range(5):
            world = killed_run(
                strategy, at_look=at_look, after_effects=after_effects, is_written=False
            )
            assert course(world) == expected, (at_look, after_effects)
            assert world.lost == []
            assert world.status.serving_revision == B


@pytest.mark.slow
@pytest.mark.parametrize("after_effects", range(5))
def test_a_write_whose_effects_never_came_is_carried_out_by_the_next_operator(after_effects):
    expected = course(finished(World(RULES)))
    for at_look in range(20):
        world = killed_run(
            Strategy.CANARY, at_look=at_look, after_effects=after_effects, is_written=True
        )
        assert course(world) == expected
        assert world.lost == []


@pytest.mark.parametrize(("at_look", "after_effects"), [(1, 0), (4, 2), (9, 3), (15, 4)])
@pytest.mark.parametrize("is_written", [True, False])
def test_a_run_with_a_kill_ends_as_one_without(at_look, after_effects, is_written):
    """A sample of the sweeps above, for every day."""
    world = killed_run(
        Strategy.CANARY, at_look=at_look, after_effects=after_effects, is_written=is_written
    )
    steps = [step for phase, step, _ in course(world) if phase is Phase.ANALYZING]
    assert steps == [0, 1, 2]
    assert (world.status.serving_revision, world.lost) == (B, [])


def test_of_two_operators_that_decide_at_once_one_is_refused_and_nothing_counts_twice():
    world = World(RULES, target=B)
    for _ in range(200):
        world.apply()
        first, second = world.decide(), world.decide()
        assert first == second
        world.store(first)  # the write of the second has an old resourceVersion
        world.start_pods()
        world.start_routers()
        world.read_route()
        world.ask(100)
        world.pass_time(10)
        check_counts(world)
        if world.phase in FINISHED:
            break
    assert world.phase is Phase.SUCCEEDED


def check_counts(world: World):
    """No more is counted than was asked, of either revision."""
    if world.status.rollout is None:
        return
    for gate in world.run.gates:
        if gate.name == "errors":
            assert gate.requests <= world.pods[world.run.to].counts.requests
            assert gate.stable_requests <= world.pods[world.run.from_].counts.requests


def test_every_request_is_counted_exactly_once_through_kills_and_restarts():
    world = World(RULES, target=B)
    world.until(Phase.ANALYZING)
    world.look()
    counted = errors_of(world).requests + errors_of(world).stable_requests
    asked = 0
    for look in range(30):
        world.ask(7)
        asked += 7
        if look % 3:
            world.apply()
            world.decide()  # and killed before the write
        else:
            world.look()
        world.pass_time(1)
    world.look()
    assert errors_of(world).requests + errors_of(world).stable_requests == counted + asked


def errors_of(world: World):
    return next(gate for gate in world.run.gates if gate.name == "errors")


class Chaos(RuleBasedStateMachine):
    """A user, a cluster and a dying operator, in any order."""

    def __init__(self):
        super().__init__()
        self.world = World(RULES)
        self.aborted: set[tuple] = set()
        self.is_scaled = False
        self.tokens = 0

    @initialize(
        strategy=st.sampled_from(ROUTED),
        policy=st.sampled_from(CapacityPolicy),
        replicas=st.integers(1, 5),
    )
    def begin(self, strategy, policy, replicas):
        rules = RULES.model_copy(update={"strategy": strategy, "capacity_policy": policy})
        self.world = World(rules, replicas=replicas)
        self.world.target = B

    # ---- the operator ----------------------------------------------------------------------------

    def _look(self):
        world, before = self.world, self.world.status
        sight, wish = world.sight(), world.wish
        result = decide(before, sight, wish)
        assert result == decide(before, sight, wish)
        self.check_step(before, result.status, sight)
        world.store(result)

    @rule()
    def look(self):
        self.world.apply()
        self._look()

    @rule(effects=st.integers(0, 4), writes=st.booleans())
    def dies(self, effects, writes):
        self.world.apply(effects)
        if writes:
            self._look()

    @rule(beats=st.integers(1, 6), requests=st.integers(0, 200))
    def goes_well(self, beats, requests):
        for _ in range(beats):
            self.look()
            self.cluster_works()
            self.world.ask(requests)
            self.world.pass_time(15)

    # ---- the cluster -----------------------------------------------------------------------------

    @rule()
    def cluster_works(self):
        self.world.start_pods()
        self.world.start_routers()
        self.world.read_route()

    @rule(name=st.sampled_from([A, B, C]), left=st.integers(0, 2))
    def pods_fall(self, name, left):
        if name in self.world.pods:
            pods = self.world.pods[name]
            pods.ready = min(pods.ready, left)

    @rule()
    def routers_fall(self):
        self.world.routers_ready = 0

    @rule(seconds=st.sampled_from([1, 20, 60, 4000, 90_000, -30, -100_000]))
    def time_jumps(self, seconds):
        self.world.now += timedelta(seconds=seconds)

    @rule(requests=st.integers(1, 300))
    def clients_ask(self, requests):
        self.world.ask(requests)

    @rule(why=st.sampled_from(["", "Prometheus does not answer"]))
    def metrics(self, why):
        self.world.metrics_unavailable = why

    @rule(why=st.sampled_from(["", "the host is taken"]))
    def route_is_refused(self, why):
        self.world.refusal = why

    @rule(name=st.sampled_from([B, C]), why=st.sampled_from(["", "it ends with exit code 50"]))
    def pods_crash(self, name, why):
        self.world.hard_failures = {name: why} if why else {}

    @rule(percent=st.sampled_from([0, 0, 40]))
    def fails_requests(self, percent):
        self.world.bad_percent = {B: percent}

    # ---- the user --------------------------------------------------------------------------------

    @rule(revision=st.sampled_from([A, B, C, ""]))
    def spec_changes(self, revision):
        self.world.target = revision

    @rule(is_paused=st.booleans())
    def spec_pauses(self, is_paused):
        self.world.change(paused=is_paused)

    @rule(replicas=st.integers(0, 5))
    def scales(self, replicas):
        self.world.replicas = replicas
        self.is_scaled = True

    @rule(
        verb=st.sampled_from(
            ["pause", "resume", "promote-step", "promote-full", "abort", "retry", "rollback-to"]
        ),
        revision=st.sampled_from([A, B, C]),
    )
    def commands(self, verb, revision):
        self.tokens += 1
        world = self.world
        world.command = f"{verb}/{revision}/{self.tokens}"
        self.look()
        done = world.status.last_command
        if verb == "abort" and done and done.result == "Done":
            self.aborted.add((world.run.to, world.run.start_time))
            assert world.phase in {Phase.ROLLING_BACK, Phase.ROLLED_BACK}

    # ---- what must hold --------------------------------------------------------------------------

    def check_step(self, before, after, sight):
        """From one status to the next."""
        old, new = before.rollout, after.rollout
        if old is None or new is None or (old.to, old.start_time) != (new.to, new.start_time):
            self.check_begun(old, before, after)
            return
        if new.weights.intended > old.weights.intended:
            self.check_rise(old, new, sight)
        if new.step_index > old.step_index and not new.is_promoted:
            assert new.step_index == old.step_index + 1
        if after.serving_revision != before.serving_revision and after.serving_revision == new.to:
            assert old.phase in {Phase.PROMOTING, Phase.SWAPPING}
            assert is_swap(new) or old.weights.confirmed == 100

    def check_begun(self, old, before, after):
        if after.rollout is None or after.rollout is old:
            return
        failed = {one.revision for one in before.failed_revisions}
        retried = {one.revision for one in before.failed_revisions} - {
            one.revision for one in after.failed_revisions
        }
        assert after.rollout.to not in failed - retried
        assert (
            old is None
            or old.phase in FINISHED
            or not old.weights.intended
            or (old.phase in {Phase.BAKING, Phase.SETTLING, Phase.ROLLING_BACK})
        )

    def check_rise(self, old, new, sight):
        """Weight rises towards the step only, with pods for it, and never while something waits."""
        assert new.paused is None
        assert new.holding is None
        assert old.phase is (Phase.SWAPPING if is_swap(new) else Phase.STEPPING)
        assert (new.to, new.start_time) not in self.aborted
        rules = rules_of(new)
        if not is_swap(new):
            assert new.weights.intended <= rules.run_steps[new.step_index].weight_percent
        needed = pods_for(self.world.replicas, new.weights.intended, rules.capacity_policy)
        assert sight.of(new.to).ready >= needed

    @invariant()
    def weights_are_whole(self):
        effects = self.world.effects()
        if effects is not None:
            assert sum(effects.weights.values()) == 100
            assert min(effects.weights.values()) >= 0

    @invariant()
    def capacity_is_enough(self):
        """Both revisions have pods for the most that they may get."""
        world, effects = self.world, self.world.effects()
        run = world.status.rollout
        if effects is None or run is None or run.phase in FINISHED or is_swap(run):
            return
        policy = rules_of(run).capacity_policy
        most = max(run.weights.intended, run.weights.confirmed)
        least = min(run.weights.intended, run.weights.confirmed)
        if run.to in effects.replicas:
            assert effects.replicas[run.to] >= pods_for(world.replicas, most, policy)
            assert effects.replicas[run.from_] >= pods_for(world.replicas, 100 - least, policy)
        if policy is CapacityPolicy.SURGE:
            assert effects.replicas[effects.root] >= min(world.replicas, 1)
            assert sum(effects.replicas.values()) >= world.replicas
        elif not self.is_scaled:
            assert sum(effects.replicas.values()) <= math.ceil(world.replicas * 1.01) + 1

    @invariant()
    def the_service_leads_to_somebody(self):
        effects = self.world.effects()
        if effects is not None:
            assert effects.root in effects.replicas

    @invariant()
    def nothing_is_counted_twice(self):
        run = self.world.status.rollout
        if run is not None and {run.to, run.from_} <= set(self.world.pods):
            check_counts(self.world)

    @invariant()
    def the_status_stays_small(self):
        if self.world.status.rollout is not None:
            run = self.world.status.rollout.model_dump_json(by_alias=True, exclude_defaults=True)
            assert len(run) < 4096

    def teardown(self):
        """As soon as nothing is in its way any more, a run ends, and what is wanted serves."""
        world = self.world
        world.metrics_unavailable = world.refusal = ""
        world.hard_failures, world.bad_percent = {}, {}
        world.change(paused=False)
        world.replicas = world.replicas or 2
        world.target = world.target or B
        world.lost.clear()
        for number in range(400):
            if self._is_done():
                break
            if world.status.rollout and world.run.paused:
                world.command = f"resume/{world.run.to}/end{number}"
            world.beat()
        assert self._is_done(), world.status.rollout

    def _is_done(self):
        status = self.world.status
        is_over = status.rollout is None or status.rollout.phase in FINISHED
        return is_over and status.serving_revision == wanted_revision(status, self.world.target)


UNHURRIED = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
TestChaos = Chaos.TestCase
TestChaos.settings = settings(UNHURRIED, max_examples=12, stateful_step_count=25)


@pytest.mark.slow
def test_much_chaos():
    many = settings(UNHURRIED, max_examples=120, stateful_step_count=50)
    run_state_machine_as_test(Chaos, settings=many)
