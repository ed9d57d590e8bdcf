"""Which revision serves, and when an old one may go."""

import pytest

from modelserver_operator.config import OperatorConfig
from modelserver_operator.plan.values import ChildKey
from support.planning import a_world

SETTLE_SECONDS = OperatorConfig(runtime_image="any").settle_seconds

FIRST = {"runtime": {"args": ["--first"]}}
SECOND = {"args": ["--second"]}
THIRD = {"args": ["--third"]}


def serving_world(**spec):
    """Revision A serves with all its pods, since long ago."""
    world = a_world({"model": {"uri": "pvc://models"}, **FIRST, **spec})
    world.settle()
    world.make_all_ready()
    world.settle()
    world.pass_time(3600)
    return world, world.root_revision()


def target_of(world):
    return world.plan().target_revision


def test_before_anything_has_served_the_service_leads_to_the_target():
    world = a_world({"model": {"uri": "pvc://models"}})
    world.settle()
    assert world.root_revision() == target_of(world)
    assert "servingRevision" not in world.manifest.get("status", {})


def test_a_revision_that_never_served_is_dropped_at_once():
    world = a_world({"model": {"uri": "pvc://models"}, **FIRST})
    world.settle()
    world.change(runtime=SECOND)
    world.settle()
    assert world.revisions() == {target_of(world)} == {world.root_revision()}


def test_the_old_revision_serves_until_every_pod_of_the_new_one_is_ready():
    world, old = serving_world(replicas=2)
    world.change(runtime=SECOND)
    world.settle()
    new = target_of(world)
    assert world.revisions() == {old, new}
    world.make_ready(new, 1)
    world.settle()
    assert world.root_revision() == old
    world.make_ready(new, 2)
    world.settle()
    assert world.root_revision() == new


def test_the_old_revision_goes_when_the_service_has_settled():
    world, old = serving_world()
    world.change(runtime=SECOND)
    world.settle()
    new = target_of(world)
    world.make_ready(new)
    plan = world.settle()
    assert plan.requeue_after_seconds == SETTLE_SECONDS
    assert world.revisions() == {old, new}
    world.pass_time(SETTLE_SECONDS)
    world.settle()
    assert world.revisions() == {new}
    assert ChildKey("Service", f"chat-{old}") not in world.children
    assert ChildKey("ControllerRevision", f"chat-{old}") in world.children


def test_a_clock_that_is_set_back_keeps_the_old_pods_no_longer():
    world, old = serving_world()
    world.change(runtime=SECOND)
    world.settle()
    new = target_of(world)
    world.make_ready(new)
    world.settle()
    world.pass_time(-86_400)
    assert world.settle().requeue_after_seconds == SETTLE_SECONDS
    assert world.revisions() == {old, new}


def test_a_move_that_status_does_not_know_of_is_waited_for_again():
    """The operator was killed after it moved the Service and before it wrote status."""
    world, old = serving_world()
    world.change(runtime=SECOND)
    world.settle()
    world.make_ready(target_of(world))
    world.apply(world.plan())  # and no report
    world.pass_time(3600)
    assert world.plan().removals == ()
    world.settle()
    assert old in world.revisions()
    world.pass_time(SETTLE_SECONDS)
    world.settle()
    assert world.revisions() == {target_of(world)}


def test_going_back_returns_to_the_pods_that_still_run():
    world, old = serving_world()
    before = world.deployment(old)["metadata"]["uid"]
    world.change(runtime=SECOND)
    world.settle()
    world.change(**FIRST)
    world.settle()
    assert world.root_revision() == target_of(world) == old
    assert world.revisions() == {old}
    assert world.deployment(old)["metadata"]["uid"] == before


def test_going_back_while_settling_moves_the_service_back_at_once():
    world, old = serving_world()
    world.change(runtime=SECOND)
    world.settle()
    world.make_ready(target_of(world))
    world.settle()
    world.change(**FIRST)
    world.settle()
    assert world.root_revision() == old


def test_a_third_revision_drops_only_the_second():
    world, first = serving_world()
    world.change(runtime=SECOND)
    world.settle()
    second = target_of(world)
    world.change(runtime=THIRD)
    world.settle()
    third = target_of(world)
    assert second not in world.revisions()
    assert world.revisions() == {first, third}
    assert world.root_revision() == first


def test_when_the_old_revision_is_down_the_first_ready_pod_of_the_new_one_serves():
    world, old = serving_world(replicas=2)
    world.change(runtime=SECOND)
    world.settle()
    new = target_of(world)
    world.make_ready(new, 1)
    world.make_ready(old, 0)
    world.settle()
    assert world.root_revision() == new


def test_a_change_of_replicas_is_no_new_revision():
    world, old = serving_world()
    world.change(replicas=5)
    world.settle()
    assert world.revisions() == {old}
    assert world.deployment(old)["spec"]["replicas"] == 5


def test_an_upgrade_of_the_operator_restarts_nothing():
    world, _ = serving_world()
    world.config = type(world.config)(runtime_image="registry.example/runtime:2")
    assert world.plan().is_empty


def test_a_new_revision_takes_the_image_of_the_upgraded_operator():
    world, old = serving_world()
    world.config = type(world.config)(runtime_image="registry.example/runtime:2")
    world.change(runtime=SECOND)
    plan = world.settle()
    assert plan.image == "registry.example/runtime:2"
    assert image_of(world, old) == "registry.example/runtime:1"


def image_of(world, revision):
    return world.deployment(revision)["spec"]["template"]["spec"]["containers"][0]["image"]


def test_suspending_stops_the_pods_and_resuming_brings_back_the_same_revision():
    world, old = serving_world(replicas=2)
    world.change(suspend=True)
    world.settle()
    assert world.deployment(old)["spec"]["replicas"] == 0
    assert ChildKey("PodDisruptionBudget", f"chat-{old}") not in world.children
    world.change(suspend=False)
    world.settle()
    assert world.revisions() == {old}
    assert world.deployment(old)["spec"]["replicas"] == 2


def test_a_new_revision_while_suspended_takes_the_place_of_the_old_one():
    world, _ = serving_world()
    world.change(suspend=True)
    world.settle()
    world.change(runtime=SECOND)
    world.settle()
    world.pass_time(SETTLE_SECONDS)
    world.settle()
    assert world.revisions() == {target_of(world)} == {world.root_revision()}


@pytest.mark.parametrize(
    "kind",
    ["ControllerRevision", "Deployment", "Service", "ServiceAccount", "NetworkPolicy",
     "PodDisruptionBudget"],
)  # fmt: skip
def test_a_child_deleted_by_hand_comes_back_as_it_was(kind):
    world, _ = serving_world(replicas=2)
    world.config = type(world.config)(runtime_image="registry.example/runtime:2")
    before = manifests(world, kind)
    assert before
    for key in before:
        del world.children[key]
    world.settle()
    assert manifests(world, kind) == before


def manifests(world, kind):
    volatile = {"uid", "generation"}
    found = {}
    for key, child in world.children.items():
        if key.kind == kind:
            metadata = {k: v for k, v in child["metadata"].items() if k not in volatile}
            found[key] = {**child, "metadata": metadata, "status": None}
    return found


def test_with_record_and_pods_both_gone_the_status_still_knows_what_was_pinned():
    world, old = serving_world()
    status = {
        **world.manifest["status"],
        "targetRevision": old,
        "effective": {"image": "registry.example/runtime:1"},
        "artifact": {"uri": "pvc://models"},
    }
    world.manifest["status"] = status
    world.config = type(world.config)(runtime_image="registry.example/runtime:2")
    for kind in ("ControllerRevision", "Deployment"):
        del world.children[ChildKey(kind, f"chat-{old}")]
    assert world.plan().target_revision == old


def test_an_old_serving_revision_whose_record_was_deleted_is_left_as_it_is():
    world, old = serving_world()
    world.change(runtime=SECOND)
    world.settle()
    del world.children[ChildKey("ControllerRevision", f"chat-{old}")]
    assert world.plan().is_empty
    assert world.root_revision() == old


def test_the_deployment_of_the_serving_revision_comes_back_in_the_middle_of_a_rollout():
    world, old = serving_world()
    world.change(runtime=SECOND)
    world.settle()
    before = world.deployment(old)["spec"]
    del world.children[ChildKey("Deployment", f"chat-{old}")]
    world.settle()
    assert world.deployment(old)["spec"] == before
    assert world.root_revision() == old


def test_a_service_that_was_bent_to_nowhere_leads_to_the_serving_revision_again():
    world, old = serving_world()
    world.change(runtime=SECOND)
    world.settle()
    root = world.children[ChildKey("Service", "chat")]
    root["spec"]["selector"]["modelserver.dev/revision"] = "nowhere"
    world.settle()
    assert world.root_revision() == old


def test_a_bent_label_takes_nothing_away():
    world, old = serving_world()
    world.change(runtime=SECOND)
    world.settle()
    for name in (old, target_of(world)):
        labels = world.deployment(name)["metadata"]["labels"]
        labels["modelserver.dev/revision"] = "bent"
    plan = world.plan()
    assert plan.removals == ()
    assert {write.reason for write in plan.writes} == {
        "drift at metadata.labels.modelserver.dev/revision"
    }


def test_history_keeps_the_newest_and_what_is_in_use():
    world, _ = serving_world()
    for number in range(9):
        world.change(runtime={"args": [f"--{number}"]})
        world.settle()
        world.make_all_ready()
        world.settle()
        world.pass_time(3600)
        world.settle()
    records = [c for key, c in world.children.items() if key.kind == "ControllerRevision"]
    numbers = sorted(record["revision"] for record in records)
    assert numbers == [5, 6, 7, 8, 9, 10]
    assert len(world.revisions()) == 1


def test_the_revision_that_is_asked_for_again_is_the_newest():
    world, old = serving_world()
    world.change(runtime=SECOND)
    world.settle()
    world.change(**FIRST)
    world.settle()
    assert world.children[ChildKey("ControllerRevision", f"chat-{old}")]["revision"] == 3


def test_a_server_that_is_being_deleted_is_left_to_the_garbage_collector():
    world, _ = serving_world()
    world.manifest["metadata"]["deletionTimestamp"] = "2026-11-21T12:00:00Z"
    world.children.clear()
    assert world.plan().is_empty


def test_what_is_already_going_is_neither_written_nor_removed():
    world, old = serving_world()
    world.children[ChildKey("Deployment", f"chat-{old}")]["metadata"]["deletionTimestamp"] = "now"
    world.change(replicas=3)
    assert not [w for w in world.plan().writes if w.manifest["kind"] == "Deployment"]


def test_a_stranger_with_a_name_of_ours_is_not_touched():
    world = a_world({"model": {"uri": "pvc://models"}})
    key = ChildKey("Service", "chat")
    world.strangers[key] = {"kind": "Service", "metadata": {"name": "chat"}}
    plan = world.settle()
    assert plan.conflicts == (key,)
    assert key not in world.children
    assert world.revisions()
