"""The conditions through a server's life, and the laws that hold for every list of them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_operator.apis.status import Condition, ConditionStatus, ConditionType
from modelserver_operator.status.conditions import Statement, merged
from support import pod_outcomes
from support.life import (
    BROKEN,
    UNSTARTED,
    broken,
    in_conflict,
    new,
    ready,
    replica_lost,
    rolled,
    rolling,
    scaled_to_zero,
    settling,
    suspended,
)
from support.world import World, fetching, loading, on_claim, pinned, unpinned

STARTING = pod_outcomes.starting()
NO_GPU = pod_outcomes.unschedulable()


def resolving():
    world = World(unpinned(), UNSTARTED)
    world.step()
    return world


def unresolvable():
    world = World(
        unpinned(), pod_outcomes.exiting(44, code="ArtifactNotFound", message="no such branch")
    )
    world.step()
    return world


def being_fetched():
    world = World(pinned(), STARTING)
    world.step()
    world.progress = {pod["metadata"]["name"]: fetching(37) for pod in world.pods}
    world.step()
    return world


def being_loaded():
    world = World(on_claim(), STARTING)
    world.step()
    world.progress = {pod["metadata"]["name"]: loading() for pod in world.pods}
    world.step()
    return world


def scaled_up():
    """One pod is ready, the other two are not there yet."""
    world = ready()
    world.outcome = UNSTARTED
    world.change(replicas=3)
    kept = world.pods[0]["status"]
    world.step()
    world.pods[0]["status"] = kept
    world.status = world.look()
    return world


def replica_unschedulable():
    world = ready(replicas=2)
    world.pods[1]["status"] = NO_GPU.status_of(world.pods[1])
    world.status = world.look()
    return world


SERVING = ("True", "Serving")
RESOLVED = ("True", "Resolved")

LIFE = {
    new: {
        "Ready": ("Unknown", "Starting"),
        "Serving": ("False", "NoReadyReplica"),
        "Progressing": ("True", "Starting"),
        "ModelResolved": RESOLVED,
    },
    resolving: {
        "Ready": ("Unknown", "Resolving"),
        "Serving": ("False", "NoReadyReplica"),
        "Progressing": ("True", "Resolving"),
        "ModelResolved": ("Unknown", "Resolving"),
    },
    unresolvable: {
        "Ready": ("False", "ArtifactNotFound"),
        "Serving": ("False", "ArtifactNotFound"),
        "Progressing": ("False", "ArtifactNotFound"),
        "ModelResolved": ("False", "ArtifactNotFound"),
    },
    being_fetched: {
        "Ready": ("Unknown", "Fetching"),
        "Serving": ("False", "NoReadyReplica"),
        "Progressing": ("True", "Fetching"),
        "ModelResolved": RESOLVED,
    },
    being_loaded: {
        "Ready": ("Unknown", "Loading"),
        "Serving": ("False", "NoReadyReplica"),
        "Progressing": ("True", "Loading"),
        "ModelResolved": RESOLVED,
    },
    ready: {
        "Ready": SERVING,
        "Serving": SERVING,
        "Progressing": ("False", "Complete"),
        "ModelResolved": RESOLVED,
    },
    broken: {
        "Ready": ("False", "InvalidConfiguration"),
        "Serving": ("False", "InvalidConfiguration"),
        "Progressing": ("False", "InvalidConfiguration"),
        "ModelResolved": RESOLVED,
    },
    rolling: {
        "Ready": ("Unknown", "RollingOut"),
        "Serving": SERVING,
        "Progressing": ("True", "RollingOut"),
        "ModelResolved": RESOLVED,
    },
    settling: {
        "Ready": SERVING,
        "Serving": SERVING,
        "Progressing": ("True", "Settling"),
        "ModelResolved": RESOLVED,
    },
    rolled: {
        "Ready": SERVING,
        "Serving": SERVING,
        "Progressing": ("False", "Complete"),
        "ModelResolved": RESOLVED,
    },
    scaled_to_zero: {
        "Ready": ("True", "ScaledToZero"),
        "Serving": ("False", "ScaledToZero"),
        "Progressing": ("False", "Complete"),
        "ModelResolved": RESOLVED,
    },
    scaled_up: {
        "Ready": ("Unknown", "Starting"),
        "Serving": SERVING,
        "Progressing": ("True", "Starting"),
        "ModelResolved": RESOLVED,
    },
    suspended: {
        "Ready": ("False", "Suspended"),
        "Serving": ("False", "Suspended"),
        "Progressing": ("False", "Suspended"),
        "ModelResolved": RESOLVED,
    },
    replica_lost: {
        "Ready": ("False", "ReplicasUnavailable"),
        "Serving": SERVING,
        "Progressing": ("True", "Starting"),
        "ModelResolved": RESOLVED,
        "Degraded": ("True", "ReplicasUnavailable"),
    },
    replica_unschedulable: {
        "Ready": ("False", "InsufficientResource"),
        "Serving": SERVING,
        "Progressing": ("False", "InsufficientResource"),
        "ModelResolved": RESOLVED,
        "Degraded": ("True", "InsufficientResource"),
    },
    in_conflict: {
        "Ready": ("False", "NameConflict"),
        "Serving": ("False", "NameConflict"),
        "Progressing": ("False", "NameConflict"),
        "ModelResolved": RESOLVED,
        "Degraded": ("True", "NameConflict"),
    },
}


@pytest.mark.parametrize("state", LIFE, ids=lambda state: state.__name__)
def test_every_state_of_life_has_its_conditions(state):
    assert state().summary == LIFE[state]


def test_a_broken_new_revision_leaves_the_old_one_serving():
    world = rolling(BROKEN)
    assert world.summary == {
        "Ready": ("False", "InvalidConfiguration"),
        "Serving": SERVING,
        "Progressing": ("False", "InvalidConfiguration"),
        "ModelResolved": RESOLVED,
        "Degraded": ("True", "InvalidConfiguration"),
    }
    assert world.status["servingRevision"] in world.condition("Degraded")["message"]


def test_a_broken_old_revision_does_not_hide_how_the_new_one_does():
    world = rolling()
    world.outcomes = {world.status["servingRevision"]: BROKEN}
    world.step()
    assert world.diagnosis == {}
    assert world.condition("Serving")["status"] == "False"
    assert world.condition("Ready")["status"] == "Unknown"


def test_messages_say_numbers():
    assert being_fetched().condition("Ready")["message"] == (
        "0 of 1 replica ready. Fetching hf://example/tiny: 35 % of 1.2 GB."
    )
    assert ready(replicas=2).condition("Ready")["message"] == "2 of 2 replicas ready."
    assert replica_lost().condition("Degraded")["message"] == "1 of 2 replicas ready."
    assert "1 of 2 replicas ready. No node" in replica_unschedulable().condition("Ready")["message"]


def test_a_lost_replica_is_not_mistaken_for_one_that_never_was():
    """Also later on, when the last stored condition says so already."""
    world = replica_lost()
    world.status = world.look()
    assert world.condition("Ready")["reason"] == "ReplicasUnavailable"
    world.change(replicas=3)
    world.status = world.look()
    assert world.condition("Ready")["status"] == "Unknown"
    assert world.condition("Degraded") == {}


def test_the_conditions_are_about_the_latest_generation_at_once():
    world = ready()
    world.change(replicas=2)
    world.status = world.look()
    assert {c["observedGeneration"] for c in world.status["conditions"]} == {2}
    assert world.status["observedGeneration"] == 2


def test_a_ready_server_that_was_resolved_names_its_commit():
    world = World(unpinned())
    world.steps(3)
    assert pod_outcomes.COMMIT in world.condition("ModelResolved")["message"]
    assert world.condition("Ready")["status"] == "True"


MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  made aware by timezones
STATEMENTS = st.builds(
    Statement,
    type=st.sampled_from(ConditionType),
    status=st.sampled_from(ConditionStatus),
    reason=st.sampled_from(["One", "Other"]),
    message=st.text(max_size=3000),
)
LISTS = st.lists(STATEMENTS, max_size=5, unique_by=lambda statement: statement.type)


@given(LISTS, LISTS, MOMENTS)
def test_the_transition_time_moves_exactly_when_the_status_does(first, second, began):
    later = began + timedelta(hours=1)
    before = merged((), first, generation=1, now=began)
    after = merged(before, second, generation=2, now=later)
    old = {condition.type: condition for condition in before}
    for condition in after:
        last = old.get(condition.type)
        has_moved = last is None or last.status != condition.status
        expected = later if has_moved else began
        assert condition.last_transition_time == expected.strftime("%Y-%m-%dT%H:%M:%SZ")
        assert condition.observed_generation == 2
    assert [condition.type for condition in after] == [statement.type for statement in second]


@given(LISTS, MOMENTS)
def test_conditions_fit_the_api(statements, now):
    for condition in merged((), statements, generation=1, now=now):
        dumped = condition.model_dump_json(by_alias=True)
        assert Condition.model_validate_json(dumped) == condition
        assert len(condition.message.encode()) <= 1024
