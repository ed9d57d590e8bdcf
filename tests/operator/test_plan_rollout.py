"""What a stored rollout makes of the children; the state machine itself has tests of its own."""

import pytest

from modelserver_operator.plan.values import ChildKey
from support.planning import a_world
from support.running_world import FIRST, SECOND, SINCE, replicas, router_pod, running_world


def route(world):
    return world.children[ChildKey("ConfigMap", "chat-router")]["data"]["route.json"]


def test_nothing_changes_before_the_run_is_stored():
    world, old, _ = running_world()
    del world.manifest["status"]["rollout"]
    assert world.plan().writes == ()
    assert world.plan().serving_revision == old


def test_each_revision_has_the_pods_that_its_share_needs():
    world, old, new = running_world(weight=20)
    world.settle()
    assert replicas(world, old) == 4
    assert 0 < replicas(world, new) <= 4


def test_the_root_service_leads_to_the_router_only_while_it_is_in_the_way():
    world, old, _ = running_world()
    world.settle()
    root = ChildKey("Service", "chat")
    assert world.children[root]["spec"]["selector"]["modelserver.dev/role"] == "router"
    del world.manifest["status"]["rollout"]["routedAt"]
    world.settle()
    assert world.children[root]["spec"]["selector"]["modelserver.dev/revision"] == old


def test_all_of_the_route_is_one_object():
    world, old, new = running_world(weight=20)
    world.settle()
    assert f'"weights":{{"{old}":80,"{new}":20}}' in route(world) or (
        f'"weights":{{"{new}":20,"{old}":80}}' in route(world)
    )


def test_another_weight_restarts_no_router():
    world, *_ = running_world(weight=20)
    world.settle()
    before = world.children[ChildKey("Deployment", "chat-router")]
    world.manifest["status"]["rollout"]["weights"]["intended"] = 50
    plan = world.step()
    assert ChildKey("ConfigMap", "chat-router") in {
        ChildKey(one.manifest["kind"], one.manifest["metadata"]["name"]) for one in plan.writes
    }
    assert world.children[ChildKey("Deployment", "chat-router")] == before


def test_router_pods_are_told_of_another_route_once():
    world, *_ = running_world()
    world.pods.append(router_pod())
    version = world.plan().route_version
    told = world.plan().pod_annotations
    assert [(one.pod, one.value) for one in told] == [("chat-router-1", version)]
    world.pods[-1] = router_pod(**{"modelserver.dev/route-version": version})
    assert world.plan().pod_annotations == ()


def test_router_pods_that_are_ready_are_asked_and_others_are_not():
    world, *_ = running_world()
    world.pods.append(router_pod())
    starting = router_pod("chat-router-2")
    starting["status"]["conditions"] = []
    world.pods.append(starting)
    assert world.plan().questions.routers == ("chat-router-1",)


@pytest.mark.parametrize("phase", ["Succeeded", "RolledBack"])
def test_nobody_is_asked_and_no_router_is_kept_when_a_run_is_over(phase):
    world, old, new = running_world()
    world.settle()
    world.manifest["status"]["rollout"]["phase"] = phase
    if phase == "Succeeded":
        world.manifest["status"] |= {"servingRevision": new}
    else:
        failed = {"revision": new, "reason": "ErrorRate", "at": SINCE}
        world.manifest["status"]["failedRevisions"] = [failed]
    world.make_all_ready()
    world.settle()
    world.pass_time(3600)
    world.settle()
    assert not world.plan().questions
    assert world.revisions() == {new if phase == "Succeeded" else old}


def test_a_failed_revision_that_the_spec_still_asks_for_gets_no_pods():
    world, old, new = running_world()
    failed = {"revision": new, "reason": "ErrorRate", "at": SINCE}
    world.manifest["status"]["failedRevisions"] = [failed]
    world.manifest["status"]["rollout"]["phase"] = "RolledBack"
    plan = world.settle()
    assert plan.target_revision == new
    assert plan.wanted_revision == old
    assert world.deployment(new) is None


def test_a_server_without_the_new_parts_has_no_trace_of_a_router():
    world = a_world({"model": {"uri": "pvc://models"}, "runtime": FIRST})
    world.settle()
    world.make_all_ready()
    world.change(runtime=SECOND)
    world.settle()
    assert not [key for key in world.children if "router" in key.name]
    assert not world.plan().questions


def test_history_is_as_long_as_the_rollout_says():
    world = a_world({"model": {"uri": "pvc://models"}, "rollout": {"historyLimit": 1}})
    for number in range(4):
        world.change(runtime={"args": [f"--n={number}"]})
        world.settle()
        world.make_all_ready()
        world.settle()
        world.pass_time(3600)
        world.settle()
    assert sum(key.kind == "ControllerRevision" for key in world.children) == 2


@pytest.mark.parametrize(("before", "after"), [(25, 50), (50, 25)])
def test_pods_are_given_away_before_others_are_asked_for(before, after):
    """Whatever the revisions are called."""
    shift = {"strategy": "Canary", "capacityPolicy": "Shift"}
    world, old, new = running_world(weight=before, spec=shift)
    world.settle()
    asked = {one: replicas(world, one) for one in (old, new)}
    weights = world.manifest["status"]["rollout"]["weights"]
    weights |= {"intended": after, "confirmed": after}
    for write in world.plan().writes:
        revision = write.manifest["metadata"]["name"].rpartition("-")[2]
        if write.manifest["kind"] == "Deployment" and revision in asked:
            asked[revision] = write.manifest["spec"]["replicas"]
            assert sum(asked.values()) <= 4
    assert asked == {old: 4 * (100 - after) // 100, new: 4 * after // 100}
