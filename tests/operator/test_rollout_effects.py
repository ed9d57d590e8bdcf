"""What a stored rollout asks of the world, what pods a share needs, how small it is stored."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_operator.apis.rollout import (
    Analysis,
    CapacityPolicy,
    Gate,
    GoldenSet,
    LatencyGate,
    Preflight,
    QueryCheck,
    RolloutSpec,
    Shadow,
    Step,
    Strategy,
    WebhookCheck,
)
from modelserver_operator.apis.rollout_status import FailedRevision, Rollout
from modelserver_operator.apis.rollout_status import RolloutPhase as Phase
from modelserver_operator.apis.runtime import KeyReference
from modelserver_operator.apis.status import ModelServerStatus
from modelserver_operator.rollout.capacity import next_share, pods_for
from modelserver_operator.rollout.effects import wanted_revision
from modelserver_operator.rollout.frozen import frozen, rules_of
from modelserver_operator.rollout.reasons import as_evidence
from support.rollout_world import FINISHED, A, B, C, World

SHARES = st.integers(0, 100)
REPLICAS = st.integers(1, 300)


@pytest.mark.parametrize(
    ("replicas", "percent", "pods"),
    [(4, 0, 0), (4, 1, 1), (4, 25, 1), (4, 26, 2), (4, 99, 4), (4, 100, 4), (1, 5, 1), (0, 50, 0)],
)
def test_a_share_needs_as_many_pods_as_it_is_of_all(replicas, percent, pods):
    assert pods_for(replicas, percent) == pods


@given(REPLICAS, SHARES, st.sampled_from(CapacityPolicy))
def test_both_sides_together_are_enough_for_all_traffic(replicas, percent, policy):
    both = pods_for(replicas, percent, policy) + pods_for(replicas, 100 - percent, policy)
    assert both >= replicas - (policy is CapacityPolicy.SHIFT) * replicas / 50


@given(REPLICAS, SHARES, SHARES)
def test_shift_comes_to_its_goal_pod_by_pod(replicas, start, goal):
    share, low = min(start, goal), min(start, goal)
    shares = [share]
    while share < max(start, goal):
        share = next_share(share, max(start, goal), replicas, CapacityPolicy.SHIFT)
        shares.append(share)
    assert shares[0] == low
    assert all(before < after for before, after in pairwise(shares))
    jumps = [
        pods_for(replicas, after, CapacityPolicy.SHIFT)
        - pods_for(replicas, before, CapacityPolicy.SHIFT)
        for before, after in pairwise(shares)
    ]
    assert max(jumps, default=0) <= 1 + replicas // 50


@pytest.mark.parametrize("replicas", [1, 2, 3, 4, 7, 10])
def test_shift_needs_one_pod_more_than_replicas_through_a_whole_run(replicas):
    steps = tuple(Step(weight_percent=one, hold_seconds=0) for one in (5, 25, 50, 100))
    rules = RolloutSpec(
        strategy=Strategy.CANARY,
        capacity_policy=CapacityPolicy.SHIFT,
        steps=steps,
        analysis=Analysis(min_samples=1),
        bake_seconds=0,
    )
    world = World(rules, target=B, replicas=replicas)
    most = 0
    for _ in range(200):
        if world.phase in FINISHED:
            break
        world.beat()
        effects = world.effects()
        most = max(most, sum(effects.replicas.values()) if effects else 0)
    assert (world.phase, world.lost) == (Phase.SUCCEEDED, [])
    assert most == replicas + 1


def test_surge_keeps_all_pods_of_the_old_revision_until_the_bake_is_over():
    world = World(RolloutSpec(strategy=Strategy.CANARY), target=B)
    while world.phase is not Phase.SETTLING:
        world.beat()
        assert world.effects().replicas[A] == 4


@pytest.mark.parametrize("policy", CapacityPolicy)
def test_the_pods_that_were_examined_stay_while_the_routers_learn_of_the_first_step(policy):
    rules = RolloutSpec(
        strategy=Strategy.CANARY, capacity_policy=policy, shadow=Shadow(hold_seconds=0)
    )
    world = World(rules, target=B)
    seen = set()
    for beat in range(400):
        world.are_routers_stuck = beat % 3 != 0
        world.beat()
        seen.add((world.phase, world.are_routers_stuck))
        if world.phase in _EXAMINED:
            assert world.effects().replicas[B] >= 1
        if world.phase is Phase.ANALYZING:
            break
    assert world.phase is Phase.ANALYZING
    assert (Phase.STEPPING, True) in seen


_EXAMINED = {Phase.SHADOWING, Phase.STEPPING, Phase.ANALYZING}


def test_a_run_that_is_due_asks_for_nothing_before_it_is_stored():
    world = World(RolloutSpec(strategy=Strategy.CANARY), target=B)
    effects = world.effects()
    assert (effects.replicas, effects.root, effects.weights) == ({A: 4}, A, {A: 100})
    assert not effects.is_router_wanted


def test_recreate_needs_no_router_and_never_runs_both():
    world = World(RolloutSpec(strategy=Strategy.RECREATE), target=B)
    for _ in range(20):
        world.beat()
        effects = world.effects()
        if effects is not None and world.status.rollout is not None:
            assert not effects.is_router_wanted
            assert min(effects.replicas.values()) == 0
    assert world.phase is Phase.SUCCEEDED


@pytest.mark.parametrize(
    ("status", "asked", "wanted"),
    [
        ({}, B, B),
        ({"serving_revision": A}, "", ""),
        ({"serving_revision": A, "failed_revisions": [{"revision": B}]}, B, A),
        ({"failed_revisions": [{"revision": B}]}, B, B),
        ({"rolled_back_to": {"revision": C, "instead_of": B}}, B, C),
        ({"rolled_back_to": {"revision": C, "instead_of": B}}, "", C),
        ({"rolled_back_to": {"revision": C, "instead_of": B}}, A, A),
    ],
)
def test_what_is_wanted_is_the_spec_unless_it_failed_or_a_command_says_otherwise(
    status, asked, wanted
):
    failed = [{"reason": "Aborted", "at": "", **one} for one in status.pop("failed_revisions", ())]
    stored = ModelServerStatus.model_validate({**status, "failed_revisions": tuple(failed)})
    assert wanted_revision(stored, asked) == wanted


# ---- what is stored ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rules",
    [
        RolloutSpec(),
        RolloutSpec(shadow=Shadow()),
        RolloutSpec(analysis=Analysis()),
        RolloutSpec(analysis=Analysis(time_to_first_token=LatencyGate(), errors=Gate())),
        RolloutSpec(shadow=Shadow(percent=3), steps=(Step(weight_percent=100),)),
    ],
)
def test_rules_are_frozen_without_defaults_and_read_again_as_they_were(rules):
    stored = frozen(rules)
    assert rules_of(Rollout(phase=Phase.PREPARING, start_time="", spec=stored)) == rules
    assert {} not in stored.values()


def test_the_largest_rollout_is_stored_in_less_than_four_kibibytes():
    reference = KeyReference(name="g" * 60, key="k" * 30)
    rules = RolloutSpec(
        strategy=Strategy.CANARY,
        steps=tuple(Step(weight_percent=10 * n, hold_seconds=604_800) for n in range(1, 11)),
        shadow=Shadow(percent=99, hold_seconds=60_000, min_pairs=100_000),
        preflight=Preflight(golden_set=GoldenSet(config_map_ref=reference), min_pass_percent=95),
        analysis=Analysis(
            interval_seconds=30,
            min_samples=1000,
            max_error_percent=5,
            time_to_first_token=LatencyGate(margin_percent=30, slow_above_milliseconds=2000),
            inter_token_time=LatencyGate(margin_percent=30, slow_above_milliseconds=200),
            queries=tuple(QueryCheck(name=f"q{n}", query="q" * 512, max="1") for n in "abcd"),
            webhooks=tuple(WebhookCheck(name=f"w{n}", service="s", path="/p") for n in "abcd"),
        ),
    )
    world = World(rules, target=B, sources=8)
    world.bad_percent = {A: 3, B: 3}
    world.checks = ()
    for _ in range(20):
        world.beat(requests=9_000_000)
    sizes = [size_of(status.rollout) for status in world.history]
    assert len(world.run.gates) == 6
    assert max(sizes) < 4096


def size_of(run: Rollout) -> int:
    return len(run.model_dump_json(by_alias=True, exclude_defaults=True))


def test_ten_failed_revisions_are_remembered_and_their_evidence_is_short():
    world = World(RolloutSpec(strategy=Strategy.CANARY), target=B)
    for number in range(12):
        name = f"{number:08x}"
        world.target = name
        world.hard_failures = {name: "exit code 46: " + "x" * 5000}
        for _ in range(7):
            world.beat()
    failed = world.status.failed_revisions
    assert [one.revision for one in failed] == [f"{number:08x}" for number in range(2, 12)]
    assert all(isinstance(one, FailedRevision) and len(one.evidence) <= 200 for one in failed)
    assert as_evidence("short") == "short"


def test_whoever_has_pods_answers_requests_of_a_swap_that_another_cannot():
    world = World(RolloutSpec(strategy=Strategy.HOLD_AND_SWAP), target=B)
    for _ in range(30):
        world.beat()
        if (effects := world.effects()) is not None and not effects.is_holding_requests:
            assert effects.weights[effects.stable] == 100
            assert effects.replicas[effects.stable] == 4
    assert world.status.serving_revision == B
