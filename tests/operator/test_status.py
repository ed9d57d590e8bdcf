"""The status document: its fields, that it is still at rest, and which Events follow from it."""

import json
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelserver_operator.apis.status import ModelServerStatus
from modelserver_operator.apis.v1alpha1 import parse_model_server
from modelserver_operator.errors import InvalidResource
from modelserver_operator.plan.values import ChildKey, PodProgress, Refusal
from modelserver_operator.status.artifact import PERCENT_STEP
from modelserver_operator.status.events import EventType, events_of
from modelserver_operator.status.report import status_of_invalid
from support import pod_outcomes
from support.pod_outcomes import Outcome, exiting, image_not_pulled, unschedulable
from support.world import (
    COMMIT,
    OTHER_COMMIT,
    START,
    World,
    fetching,
    loading,
    on_claim,
    pinned,
    unpinned,
)

STARTING = pod_outcomes.starting()
BROKEN = exiting(2, code="InvalidConfiguration", message="--no is no flag")


def test_the_document_of_a_server_that_serves():
    world = World(pinned(replicas=2))
    world.steps(3)
    revision = world.status["targetRevision"]
    assert {k: v for k, v in world.status.items() if k != "conditions"} == {
        "observedGeneration": 1,
        "replicas": 2,
        "readyReplicas": 2,
        "updatedReplicas": 2,
        "selector": "modelserver.dev/server=chat",
        "url": "http://chat.ns.svc",
        "servingRevision": revision,
        "servingSince": "2026-01-01T00:00:01Z",
        "targetRevision": revision,
        "artifact": {
            "uri": "hf://example/tiny",
            "resolvedRevision": COMMIT,
            "phase": "Ready",
            "sizeBytes": 250_000_000,
            "downloadedBytes": 250_000_000,
            "downloadPercent": 100,
        },
        "effective": {
            "image": "registry.example/runtime:1",
            "imageReason": f"the operator's default when revision {revision} was made",
            "servedName": "chat",
            "networkPolicy": "Restricted",
        },
    }
    assert [c["type"] for c in world.status["conditions"]] == [
        "Ready",
        "Serving",
        "Progressing",
        "ModelResolved",
    ]


def test_nothing_serves_before_a_pod_was_ready():
    world = World(pinned(), STARTING)
    world.steps(3)
    assert "servingRevision" not in world.status
    assert "servingSince" not in world.status
    world.outcome = pod_outcomes.FINE
    world.steps(2)
    assert world.status["servingRevision"] == world.status["targetRevision"]


def test_a_revision_that_never_served_makes_room_for_the_next():
    world = World(pinned(), BROKEN)
    world.steps(3)
    never = world.status["targetRevision"]
    world.change(runtime={"args": ["--second"]})
    world.steps(3)
    assert world.status["targetRevision"] != never
    assert not [pod for pod in world.pods if never in pod["metadata"]["name"]]


def test_what_the_user_chose_is_told_as_effective():
    world = World(
        {
            "model": {"uri": "pvc://models/chat", "servedName": "gpt"},
            "runtime": {"image": "acme/x:1"},
            "network": {"policy": "None"},
        }
    )
    world.steps(3)
    assert world.status["effective"] == {
        "image": "acme/x:1",
        "imageReason": "spec.runtime.image",
        "servedName": "gpt",
        "networkPolicy": "None",
    }


def test_a_model_that_is_not_fetched_has_a_phase_but_no_download():
    world = World(on_claim(), STARTING)
    world.steps(2)
    assert world.status["artifact"] == {"uri": "pvc://models/chat", "phase": "Loading"}
    world.outcome = pod_outcomes.FINE
    world.step()
    assert world.status["artifact"] == {"uri": "pvc://models/chat", "phase": "Ready"}


# ---- progress ------------------------------------------------------------------------------------


def at(percent, **more):
    world = World(pinned(), STARTING)
    world.steps(2)
    return asked(world, fetching(percent, **more))


def asked(world, answer):
    """Every pod says this."""
    world.progress = {pod["metadata"]["name"]: answer for pod in world.pods}
    world.step()
    return world


@pytest.mark.parametrize(
    ("percent", "shown", "size"),
    [(0, 0, 0), (4.9, 0, 0), (5, 5, 50), (37.2, 35, 350), (99.9, 95, 950), (100, 100, 1000)],
)
def test_a_download_is_shown_in_steps_of_five_percent(percent, shown, size):
    artifact = at(percent, total=1000).status["artifact"]
    assert artifact["phase"] == "Fetching"
    assert (artifact["downloadPercent"], artifact["downloadedBytes"]) == (shown, size)
    assert artifact["sizeBytes"] == 1000


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, 0), (3, 5), (58, 60), (61, 90), (599, 600), (3601, 3660)]
)
def test_the_time_left_is_rounded_up(seconds, shown):
    assert at(50, eta=seconds).status["artifact"]["etaSeconds"] == shown


def test_the_time_left_is_that_of_the_beginning_of_a_step():
    world = at(50, eta=90)
    asked(world, fetching(52, eta=70))
    assert world.status["artifact"]["etaSeconds"] == 90
    asked(world, fetching(55, eta=70))
    assert world.status["artifact"]["etaSeconds"] == 90  # 70 s, in steps of half a minute
    asked(world, fetching(60, eta=59))
    assert world.status["artifact"]["etaSeconds"] == 60


def test_a_download_is_written_at_most_twenty_times():
    world = at(0)
    written = {json.dumps(world.status)}
    for permille in range(0, 1000, 9):
        asked(world, fetching(permille / 10, eta=1000 - permille))
        written.add(json.dumps(world.status))
    assert len(written) == 100 // PERCENT_STEP


def test_a_pod_that_does_not_answer_once_leaves_what_was_known():
    world = at(50)
    before = world.status["artifact"]
    world.progress = {}
    world.step()
    assert world.status["artifact"] == before


def test_the_furthest_pod_is_told():
    world = World(pinned(replicas=2), STARTING)
    world.steps(2)
    slow, fast = (pod["metadata"]["name"] for pod in world.pods)
    world.progress = {slow: fetching(10), fast: fetching(80)}
    world.step()
    assert world.status["artifact"]["downloadPercent"] == 80
    world.progress = {slow: loading(), fast: fetching(80)}
    world.step()
    assert world.status["artifact"]["phase"] == "Loading"


EXTRA = {"name": "embedder", "uri": "hf://example/embedder", "revision": OTHER_COMMIT}


def test_the_download_of_an_extra_model_is_not_taken_for_that_of_the_first():
    world = World(pinned(extraModels=[EXTRA]), fetching_the_second())
    world.steps(2)
    asked(world, fetching(20, total=10))
    artifact = world.status["artifact"]
    assert (artifact["phase"], artifact["downloadPercent"]) == ("Fetching", 100)
    assert artifact["sizeBytes"] == 1000
    assert "Fetching the extra models" in world.condition("Ready")["message"]


def test_a_model_on_a_claim_waits_for_its_extra_models():
    world = World(on_claim(extraModels=[EXTRA]), STARTING)
    world.steps(2)
    asked(world, fetching(20))
    assert world.status["artifact"] == {"uri": "pvc://models/chat", "phase": "Fetching"}
    assert "Fetching the extra models" in world.condition("Ready")["message"]


def fetching_the_second():
    """The first of two init containers is done."""

    def status_of(pod):
        status = STARTING.status_of(pod)
        done = {"exitCode": 0, "message": json.dumps({"revision": COMMIT, "sizeBytes": 1000})}
        status["initContainerStatuses"][0]["state"] = {"terminated": done}
        return status

    return Outcome(name="fetching the second", status_of=status_of)


def test_another_commit_starts_from_nothing():
    world = at(50)
    world.progress = {}
    world.change(model={"uri": "hf://example/tiny", "revision": OTHER_COMMIT})
    world.steps(2)
    assert "downloadPercent" not in world.status["artifact"]


def test_a_resolved_model_keeps_commit_and_size_when_its_pods_go():
    world = World(unpinned())
    world.steps(3)
    size = world.status["artifact"]["sizeBytes"]
    world.change(suspend=True)
    world.steps(2)
    assert world.pods == []
    assert world.status["artifact"] == {
        "uri": "hf://example/tiny",
        "resolvedRevision": COMMIT,
        "sizeBytes": size,
    }


# ---- rollout -------------------------------------------------------------------------------------


def test_a_rollout_is_told_from_its_beginning_to_its_end():
    world = World(pinned())
    world.steps(3)
    old = world.status["servingRevision"]
    assert "rollout" not in world.status
    world.outcomes, world.outcome = {old: pod_outcomes.FINE}, STARTING
    world.change(runtime={"dtype": "Float32"})
    world.steps(2)
    new, began = world.status["targetRevision"], world.status["rollout"]["startTime"]
    assert world.status["servingRevision"] == old
    assert world.status["rollout"] == {
        "from": old,
        "to": new,
        "phase": "Starting",
        "startTime": began,
    }
    world.outcome = pod_outcomes.FINE
    world.steps(3)
    assert world.status["servingRevision"] == new
    assert world.status["rollout"] == {
        "from": old,
        "to": new,
        "phase": "Settling",
        "startTime": began,
    }
    world.steps(3, seconds=10)
    assert "rollout" not in world.status
    assert world.status["servingSince"] > began


def test_a_clock_that_is_set_back_keeps_the_pods_of_an_old_revision_no_longer():
    world = World(pinned(replicas=2))
    world.outcome = pod_outcomes.FINE
    world.steps(3)
    world.change(runtime={"dtype": "Float32"})
    world.steps(3)
    assert world.status["rollout"]["phase"] == "Settling"
    world.now -= timedelta(days=1)
    world.steps(3, seconds=10)
    assert "rollout" not in world.status
    assert world.status["servingSince"] <= world.now.isoformat()


def test_replicas_count_all_revisions_and_ready_ones_only_the_serving():
    world = World(pinned(replicas=2))
    world.steps(3)
    world.outcomes = {world.status["servingRevision"]: pod_outcomes.FINE}
    world.outcome = STARTING
    world.change(runtime={"dtype": "Float32"})
    world.steps(2)
    counts = ("replicas", "readyReplicas", "updatedReplicas")
    assert [world.status[count] for count in counts] == [4, 2, 2]


# ---- events --------------------------------------------------------------------------------------


def reasons(events):
    return [(event.type.value, event.reason) for event in events]


def test_a_start_is_told_by_two_events():
    world = World(unpinned(), STARTING)
    events = world.steps(3)
    world.outcome = pod_outcomes.FINE
    events += world.steps(4)
    assert reasons(events) == [("Normal", "Resolved"), ("Normal", "Ready")]
    assert COMMIT in events[0].message


def test_a_rollout_is_told_by_its_beginning_and_its_end():
    world = World(pinned())
    world.steps(3)
    world.outcomes = {world.status["servingRevision"]: pod_outcomes.FINE}
    world.outcome = STARTING
    world.change(runtime={"dtype": "Float32"})
    events = world.steps(3)
    world.outcome = pod_outcomes.FINE
    events += world.steps(9, seconds=5)
    assert reasons(events) == [
        ("Normal", "RolloutStarted"),
        ("Normal", "Ready"),
        ("Normal", "RolloutFinished"),
    ]


def test_a_rollout_that_is_taken_back_is_told_as_such():
    world = World(pinned())
    world.steps(3)
    world.outcomes = {world.status["servingRevision"]: pod_outcomes.FINE}
    world.outcome = BROKEN
    before = world.spec
    world.change(runtime={"dtype": "Float32"})
    events = world.steps(3)
    assert reasons(events) == [
        ("Normal", "RolloutStarted"),
        ("Warning", "NotReady"),
        ("Warning", "InvalidConfiguration"),
    ]
    world.change(**before, runtime={})
    events = world.steps(9, seconds=5)
    assert ("Normal", "RolloutAbandoned") in reasons(events)
    assert ("Normal", "Ready") in reasons(events)
    assert not [event for event in events if event.type is EventType.WARNING]


def test_a_diagnosis_is_told_once_with_its_hint():
    world = World(pinned(), BROKEN)
    events = world.steps(5)
    assert reasons(events) == [("Normal", "Resolved"), ("Warning", "InvalidConfiguration")]
    assert "--no is no flag" in events[1].message
    assert "spec.runtime.args" in events[1].message
    assert events[1].action == "Diagnose"


def test_pausing_and_resuming_are_told():
    world = World(pinned())
    world.steps(3)
    world.change(suspend=True)
    assert reasons(world.steps(3)) == [("Normal", "Suspended")]
    world.change(suspend=False)
    assert reasons(world.steps(3)) == [("Normal", "Resumed"), ("Normal", "Ready")]


def test_a_lost_replica_is_told():
    world = World(pinned())
    world.steps(3)
    world.outcome = STARTING
    assert reasons(world.steps(3)) == [("Warning", "NotReady")]


# ---- laws ----------------------------------------------------------------------------------------

UNSTARTED = Outcome(name="unstarted", status_of=lambda _: {"phase": "Pending"})


def fetched(said):
    """A pod that is ready, whose init container has said this."""

    def status_of(pod):
        status = pod_outcomes.FINE.status_of(pod)
        for container in status.get("initContainerStatuses", []):
            container["state"]["terminated"]["message"] = said
        return status

    return Outcome(name="fetched", status_of=status_of)


OUTCOMES = [
    pod_outcomes.FINE,
    STARTING,
    UNSTARTED,
    BROKEN,
    exiting(1, message="é" * 4000),
    exiting(1, message='{"code": "DiskFull", "message": "\\ud800", "hint": "\\udfff"}'),
    fetched('{"sizeBytes": true}'),
    fetched('{"sizeBytes": 1' + "0" * 400 + "}"),
    fetched('{"sizeBytes": -1}'),
    exiting(44, code="ArtifactNotFound", message="x" * 4000, hint="y" * 4000, where="init"),
    pod_outcomes.out_of_memory(),
    image_not_pulled("ErrImagePull", "z" * 5000),
    image_not_pulled("CreateContainerConfigError", ""),
    unschedulable(""),
    unschedulable("0/9 nodes are available: 9 Insufficient cpu." + " more" * 900),
]
SPECS = [
    pinned(),
    pinned(replicas=0),
    pinned(replicas=3),
    pinned(suspend=True),
    pinned(runtime={"dtype": "Float32"}),
    unpinned(),
    on_claim(),
    {"model": {"uri": "hf://" + "a" * 200 + "/" + "b" * 200, "revision": COMMIT}},
    {"model": {"uri": "file:///opt/model"}},
]
PROGRESS = st.builds(
    PodProgress,
    phase=st.sampled_from(["Fetching", "Loading", "WarmingUp", "Ready", "Failed", "?"]),
    percent=st.floats(0, 100),
    done_bytes=st.integers(0, 10**13) | st.just(10**400),
    total_bytes=st.integers(0, 10**13) | st.just(10**400),
    eta_seconds=st.none() | st.floats(0, 1e9) | st.just(float("inf")),
    message=st.text(max_size=20),
)
REFUSALS = st.lists(
    st.builds(
        Refusal,
        key=st.sampled_from([ChildKey("Service", "chat"), ChildKey("Deployment", "chat-1")]),
        status=st.sampled_from([400, 403, 422]),
        message=st.text(max_size=2000),
    ),
    max_size=2,
)
# A spec (or none: no change), how the pods fare, what they answer, what is refused.
SCENES = st.lists(
    st.tuples(
        st.none() | st.sampled_from(SPECS),
        st.sampled_from(OUTCOMES),
        st.none() | PROGRESS,
        REFUSALS,
    ),
    min_size=1,
    max_size=5,
)
THOROUGH = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def lives(scenes):
    """The world after each scene of a life, and the Events of the scene."""
    world = World(pinned())
    for spec, outcome, progress, refusals in scenes:
        if spec is not None:
            world.change(**spec)
        world.outcome = outcome
        world.progress = (
            {pod["metadata"]["name"]: progress for pod in world.pods} if progress else {}
        )
        yield world, world.step(refusals=refusals), refusals


@THOROUGH
@given(SCENES)
def test_saying_it_again_changes_nothing_and_tells_nothing(scenes):
    for world, _, refusals in lives(scenes):
        if world.plan.requeue_after_seconds is None:  # no deadline: time alone changes nothing
            world.now += timedelta(hours=1)
        assert world.look(refusals) == world.status
        assert events_of(world.status, world.status) == ()


@THOROUGH
@given(SCENES)
def test_every_text_fits_and_the_document_is_what_the_api_takes(scenes):
    for world, events, _ in lives(scenes):
        text = json.dumps(world.status)
        parsed = ModelServerStatus.model_validate_json(text)
        dumped = parsed.model_dump(mode="json", by_alias=True, exclude_none=True)
        assert set(world.status) <= set(dumped)
        for condition in world.status["conditions"]:
            assert 0 < len(condition["message"].encode()) <= 1024
            assert condition["reason"].isalnum()
            assert condition["observedGeneration"] == world.generation
        for field in ("message", "hint") if world.diagnosis else ():
            assert 0 < len(world.diagnosis[field].encode()) <= 1024
        for event in events:
            assert event.reason.isalnum()
            assert event.action
            assert 0 < len(event.message.encode()) <= 1024


@THOROUGH
@given(SCENES)
def test_the_conditions_never_contradict_each_other(scenes):
    for world, _, _ in lives(scenes):
        conditions = {c["type"]: c["status"] for c in world.status["conditions"]}
        if conditions["Ready"] == "True":
            assert not world.diagnosis
            assert "Degraded" not in conditions
            assert conditions["Serving"] == "True" or world.plan.sizing.replicas == 0
            assert conditions["ModelResolved"] == "True"
        if world.diagnosis:
            assert conditions["Ready"] == "False"
            assert conditions["Progressing"] == "False"
        if conditions["Serving"] == "True":
            assert world.status["readyReplicas"] > 0


@THOROUGH
@given(SCENES)
def test_events_follow_only_from_transitions_and_never_twice_in_one_pass(scenes):
    before = {}
    for world, events, _ in lives(scenes):
        keys = [(event.type, event.reason) for event in events]
        assert len(keys) == len(set(keys))
        if world.status == before:
            assert events == ()
        before = world.status


# ---- what this operator cannot read --------------------------------------------------------------


def unreadable(world):
    manifest = json.loads(json.dumps(world.manifest))
    manifest["spec"]["replicas"] = -1
    manifest["metadata"]["generation"] = 7
    with pytest.raises(InvalidResource) as caught:
        parse_model_server(manifest)
    return manifest, caught.value


def test_a_resource_that_cannot_be_read_says_which_field_is_at_fault():
    world = World(pinned())
    world.steps(3)
    manifest, failure = unreadable(world)
    status = status_of_invalid(manifest, failure, START)
    assert status["diagnosis"]["code"] == "InvalidResource"
    assert "spec.replicas" in status["diagnosis"]["message"]
    assert "spec.replicas" in status["diagnosis"]["hint"]
    assert status["observedGeneration"] == 7
    found = {c["type"]: (c["status"], c["observedGeneration"]) for c in status["conditions"]}
    assert found["Ready"] == ("False", 7)
    assert found["Serving"] == ("Unknown", 7)
    assert status["servingRevision"] == world.status["servingRevision"], "what runs is left alone"
    manifest["status"] = status
    later = START + timedelta(hours=1)
    assert status_of_invalid(manifest, failure, later) == status


def test_a_new_resource_that_cannot_be_read_has_all_conditions():
    manifest, failure = unreadable(World(pinned()))
    status = status_of_invalid(manifest, failure, START)
    types = [c["type"] for c in status["conditions"]]
    assert types == ["Ready", "Serving", "Progressing", "ModelResolved"]
    assert reasons(events_of({}, status)) == [("Warning", "InvalidResource")]
