"""Experiments as children and status: pods, the router, the route, numbers, and how they end."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelserver_operator.plan.values import ChildKey
from modelserver_operator.status.events import events_of
from support.experiment_world import a_tally, by_header, serving

pytestmark = pytest.mark.slow

LONGER = {"runtime": {"args": ["--longer"]}}
DOUBLE = {"runtime": {"dtype": "Float16"}, "model": {"uri": "pvc://others"}}


def running(*experiments, spec=None, **traffic):
    world = serving(spec, **traffic)
    world.stable = world.status["servingRevision"]
    world.change(
        traffic={**traffic, "experiments": list(experiments) or [by_header(variant=LONGER)]}
    )
    world.settle()
    return world


# -- the way in ------------------------------------------------------------------------------------


def test_a_variant_gets_pods_of_its_own_and_then_its_requests():
    world = running(by_header(variant=LONGER, replicas=3))
    revision = world.experiment()["revision"]
    assert revision != world.stable
    assert world.replicas(revision) == 3
    assert world.replicas(world.stable) == 2
    assert world.experiment()["phase"] == "Running"
    assert world.tried == {"beta": revision}
    assert world.in_force["weights"] == {world.stable: 100}
    assert world.is_routed
    assert world.condition("ExperimentsRunning")[:2] == ("True", "Running")
    assert world.condition("Ready")[0] == "True"
    assert "rollout" not in world.status


def test_its_settings_are_laid_over_those_of_the_spec():
    spec = {"runtime": {"args": ["--old"], "env": [{"name": "A", "value": "1"},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}}  # fmt: skip
    variant = {"model": {"uri": "pvc://others"}, "resources": {"limits": {"memory": "2Gi"}},
               "runtime": {"args": [], "env": [{"name": "B", "value": "2"}]}}  # fmt: skip
    world = running(by_header(variant=variant), spec=spec)
    pod = world.deployment(world.experiment()["revision"])["spec"]["template"]["spec"]
    [server] = pod["containers"]
    values = {one["name"]: one for one in server["env"]}
    assert values["A"]["value"] == "1"
    assert values["B"] == {"name": "B", "value": "2"}
    assert "--old" not in server["args"]
    assert server["resources"]["limits"] == {"memory": "2Gi"}
    assert values["MODELSERVER_MODEL_URI"]["value"] == "pvc://others"


def test_the_same_settings_are_the_same_pods():
    world = running(
        by_header("beta", variant=LONGER), by_header("gamma", variant=LONGER, replicas=2)
    )
    [revision] = {one["revision"] for one in world.status["experiments"]}
    assert world.replicas(revision) == 2
    assert world.tried == {"beta": revision, "gamma": revision}


def test_settings_that_are_those_of_the_spec_are_the_pods_that_serve():
    world = running(by_header(variant={"model": {"uri": "pvc://models"}}))
    assert world.experiment()["revision"] == world.stable
    assert world.revisions() == {world.stable}
    assert world.experiment()["reason"] == "IsStable"


def test_a_revision_of_the_history_comes_back_as_it_was():
    world = serving()
    old = world.status["servingRevision"]
    world.change(runtime={"args": ["--next"]})
    world.settle()
    world.wait(60)
    assert world.revisions() == {world.status["servingRevision"]} != {old}
    world.change(traffic={"experiments": [by_header(revision=old)]})
    world.settle()
    assert world.tried == {"beta": old}
    assert world.replicas(old) == 1
    world.wait(600)
    assert "rollout" not in world.status


def test_until_its_pods_are_ready_its_requests_go_where_all_others_go():
    world = serving()
    world.change(traffic={"experiments": [by_header(variant=LONGER)]})
    world.step()
    [new] = world.revisions() - {world.status["servingRevision"]}
    world.broken.add(new)
    world.settle()
    assert world.tried == {}
    assert world.experiment()["phase"] == "Waiting"
    assert world.condition("ExperimentsRunning")[:2] == ("False", "Waiting")
    assert "0 of 1 pods of revision" in world.condition("ExperimentsRunning")[2]
    assert world.condition("Ready")[0] == "True"
    world.broken.clear()
    world.settle()
    assert world.tried == {"beta": new}


def test_the_service_leads_to_the_router_when_that_is_ready():
    world = serving()
    world.are_routers_up = False
    world.change(traffic={"experiments": [by_header(variant=LONGER)]})
    world.settle()
    assert world.has_router
    assert not world.is_routed
    assert world.experiment()["reason"] == "RouterNotReady"
    world.are_routers_up, world.are_deaf = True, True
    world.in_force = None
    world.settle()
    assert not world.is_routed
    world.are_deaf = False
    world.settle()
    assert world.is_routed
    assert world.experiment()["phase"] == "Running"


def test_it_runs_when_every_router_has_said_so():
    world = running(by_header(variant=LONGER))
    world.are_deaf = True
    other = by_header("gamma", variant=DOUBLE)
    world.change(traffic={"experiments": [by_header(variant=LONGER), other]})
    world.settle()
    assert world.experiment("gamma")["phase"] == "Starting"
    assert world.experiment("gamma")["reason"] == "RouteNotConfirmed"
    assert world.experiment("beta")["phase"] == "Running"
    assert world.last.wake_seconds <= 2
    world.are_deaf = False
    world.settle()
    assert world.experiment("gamma")["phase"] == "Running"


# -- what cannot be --------------------------------------------------------------------------------

REFUSED = [
    (by_header(revision="00000000"), {}, "UnknownRevision", "kept in the history"),
    (by_header(variant={"model": {"revision": "0" * 40}}), {}, "InvalidVariant", "only for hf://"),
    (by_header(variant={"model": {"uri": "file:///m"}}), {}, "FileModelsNotAllowed", "file:///m"),
    (by_header(variant=LONGER), {"router": "None"}, "RouterCannot", "set it to Gateway"),
    (
        {"name": "beta", "match": {"userKeyPercent": 5}, "variant": LONGER},
        {"router": "Istio"},
        "RouterCannot",
        "does not tell users apart",
    ),
]


@pytest.mark.parametrize(("experiment", "traffic", "reason", "words"), REFUSED)
def test_what_cannot_be_is_said_and_stops_nothing_else(experiment, traffic, reason, words):
    world = running(experiment, **traffic)
    assert world.experiment()["phase"] == "Waiting"
    assert world.experiment()["reason"] == reason
    assert words in world.condition("ExperimentsRunning")[2]
    assert world.revisions() == {world.stable}
    assert world.condition("Ready")[0] == "True"


def test_a_revision_that_was_rolled_back_is_not_tried():
    world = running(by_header(variant=LONGER))
    revision = world.experiment()["revision"]
    failed = {"revision": revision, "reason": "ErrorRate", "at": "2026-11-21T12:00:00Z"}
    world.manifest["status"]["failedRevisions"] = [failed]
    world.settle()
    assert world.experiment()["reason"] == "RevisionFailed"
    assert world.tried == {}
    world.wait(60)
    assert world.revisions() == {world.stable}


def test_nothing_is_tried_before_something_serves():
    world = serving({"replicas": 1})
    world.broken.add(world.status["servingRevision"])
    fresh = type(world)(world.manifest | {"status": {}})
    fresh.broken = {*world.broken}
    fresh.change(traffic={"experiments": [by_header(variant=LONGER)]})
    fresh.settle()
    assert fresh.experiment()["reason"] == "NothingServes"


def test_a_suspended_server_has_no_pods_for_it():
    world = running(by_header(variant=LONGER))
    revision = world.experiment()["revision"]
    world.change(suspend=True)
    world.settle()
    assert world.replicas(revision) == 0
    assert world.experiment()["reason"] == "Suspended"


# -- other routers ---------------------------------------------------------------------------------


def test_istio_is_told_of_headers_before_the_shares():
    world = running(by_header(variant=LONGER), router="Istio")
    revision = world.experiment()["revision"]
    first, last = world.children[ChildKey("VirtualService", "chat")]["spec"]["http"]
    assert first["name"] == "experiment-beta"
    assert f"chat-{revision}." in first["route"][0]["destination"]["host"]
    assert last["name"] == "main"
    assert ChildKey("DestinationRule", f"chat-{revision}") in world.children
    assert not world.has_router
    assert not world.is_routed


def test_pods_are_counted_where_the_router_is_another():
    world = running(by_header(variant=LONGER), router="Istio")
    revision = world.experiment()["revision"]
    world.models = {revision: a_tally(30), world.stable: a_tally(300)}
    world.wait(30)
    assert world.experiment()["answered"]["requests"] == 30
    assert world.experiment()["stable"]["requests"] == 300


# -- the way out -----------------------------------------------------------------------------------


def test_the_last_one_takes_the_router_out_of_the_way_and_both_stay_for_a_while():
    world = running(by_header(variant=LONGER))
    revision = world.experiment()["revision"]
    world.change(traffic={})
    world.settle()
    assert not world.is_routed
    assert world.tried == {}
    assert world.has_router
    assert world.replicas(revision) == 1
    assert "experiments" not in world.status
    world.wait(5)
    assert world.has_router
    assert world.replicas(revision) == 1
    world.wait(6)
    assert not world.has_router
    assert world.revisions() == {world.stable}
    assert "experimentTraffic" not in world.status


def test_the_pods_of_one_wait_for_routers_that_still_send_them_requests():
    world = running(by_header(variant=LONGER), by_header("gamma", variant=DOUBLE))
    revision = world.experiment()["revision"]
    world.are_deaf = True
    world.change(traffic={"experiments": [by_header("gamma", variant=DOUBLE)]})
    world.settle()
    world.wait(30)
    assert world.replicas(revision) == 1
    world.are_deaf = False
    world.settle()
    world.wait(11)
    assert world.replicas(revision) == 0
    assert world.is_routed


def test_pods_do_not_wait_for_ever_for_a_router_that_says_nothing():
    world = running(by_header(variant=LONGER), by_header("gamma", variant=DOUBLE))
    revision = world.experiment()["revision"]
    world.are_deaf = True
    world.change(traffic={"experiments": [by_header("gamma", variant=DOUBLE)]})
    world.settle()
    world.in_force = {**world.in_force, "experiments": []}  # it does not matter to the check
    world.wait(121)
    assert world.replicas(revision) == 0


def test_one_that_loses_its_pods_gives_its_requests_back_and_gets_them_again():
    world = running(by_header(variant=LONGER))
    revision = world.experiment()["revision"]
    world.broken.add(revision)
    world.settle()
    assert (world.tried, world.experiment()["phase"]) == ({}, "Waiting")
    assert world.replicas(revision) == 1
    world.broken.clear()
    world.settle()
    assert (world.tried, world.experiment()["phase"]) == ({"beta": revision}, "Running")


def test_without_a_router_the_service_leads_past_it():
    world = running(by_header(variant=LONGER))
    world.are_routers_up = False
    world.settle()
    assert not world.is_routed
    assert world.experiment()["reason"] == "RouterNotReady"
    world.are_routers_up = True
    world.settle()
    assert world.is_routed


def test_other_settings_are_another_revision_and_the_old_pods_go_afterwards():
    world = running(by_header(variant=LONGER))
    old = world.experiment()["revision"]
    world.change(traffic={"experiments": [by_header(variant=DOUBLE)]})
    world.settle()
    new = world.experiment()["revision"]
    assert world.tried == {"beta": new}
    assert world.replicas(old) == 1
    world.wait(11)
    assert world.revisions() == {world.stable, new}


# -- beside a change of revision -------------------------------------------------------------------


def test_a_rolling_change_goes_its_way_beside_it():
    world = running(by_header(revision="00000000"))
    world.change(traffic={"experiments": [by_header(revision=world.stable)]})
    world.settle()
    world.change(runtime={"args": ["--next"]})
    world.settle()
    new = world.status["servingRevision"]
    assert new != world.stable
    assert world.tried == {"beta": world.stable}
    assert world.replicas(world.stable) == 2, "nodes may still send it everything"
    world.wait(11)
    assert world.replicas(world.stable) == 1
    assert world.in_force["weights"] == {new: 100}
    assert world.is_routed
    assert "rollout" not in world.status


def test_a_winner_that_the_spec_asks_for_serves_with_all_pods():
    world = running(by_header(variant=LONGER))
    revision = world.experiment()["revision"]
    world.change(runtime={"args": ["--longer"]})
    world.settle()
    assert world.status["servingRevision"] == revision
    assert world.replicas(revision) == 2
    assert world.experiment()["reason"] == "IsStable"
    assert world.tried == {"beta": revision}
    world.wait(11)
    assert world.revisions() == {revision}


def test_a_canary_has_its_weights_and_the_experiment_its_requests():
    rollout = {"strategy": "Canary", "steps": [{"weightPercent": 20, "holdSeconds": 3600},
               {"weightPercent": 100}]}  # fmt: skip
    world = running(by_header(variant=DOUBLE, replicas=3), spec={"rollout": rollout})
    tried = world.experiment()["revision"]
    world.change(runtime={"args": ["--next"]})
    world.settle()
    run = world.status["rollout"]
    assert run["phase"] == "Analyzing"
    assert world.in_force["weights"] == {run["from"]: 80, run["to"]: 20}
    assert world.tried == {"beta": tried}
    assert world.replicas(tried) == 3
    world.experiments = {"beta": a_tally(500, errors=500)}
    world.wait(15)
    assert [one.get("requests", 0) for one in world.status["rollout"]["gates"]] == [0] * len(
        world.status["rollout"]["gates"]
    )
    world.change(traffic={})
    world.settle()
    world.wait(20)
    assert world.is_routed, "the run still needs the router"
    assert world.replicas(tried) == 0


# -- numbers ---------------------------------------------------------------------------------------


def test_both_are_counted_side_by_side_from_when_it_runs():
    world = serving()
    world.tallies = {world.status["servingRevision"]: a_tally(1000)}
    world.experiments = {"beta": a_tally(50)}  # of an earlier one with that name
    world.change(traffic={"experiments": [by_header(variant=LONGER)]})
    world.settle()
    assert "answered" not in world.experiment()
    world.tallies = {world.status["servingRevision"]: a_tally(1400, errors=4)}
    world.experiments = {"beta": a_tally(150, errors=5, within=0)}
    world.wait(30)
    own, stable = world.experiment()["answered"], world.experiment()["stable"]
    assert (own["requests"], own["errors"], own["errorsPercent"]) == (100, 5, "5")
    assert (stable["requests"], stable["errors"]) == (400, 4)
    assert 0 < own["p50Milliseconds"] < own["p90Milliseconds"] <= 50


def test_nothing_is_written_while_nobody_asks():
    world = running(by_header(variant=LONGER))
    world.wait(60)
    before = world.writes
    for _ in range(5):
        world.wait(60)
    assert world.writes == before
    assert world.last.wake_seconds == pytest.approx(30)


def test_a_router_that_began_anew_is_a_new_source():
    world = running(by_header(variant=LONGER))
    world.experiments = {"beta": a_tally(40)}
    world.wait(30)
    world.began, world.experiments = world.now, {"beta": a_tally(7)}
    world.wait(30)
    assert world.experiment()["answered"]["requests"] == 47


def test_what_was_answered_while_it_waited_is_not_its():
    world = running(by_header(variant=LONGER))
    revision = world.experiment()["revision"]
    world.tallies = {world.stable: a_tally(100)}
    world.wait(30)
    world.broken.add(revision)
    world.settle()
    world.tallies = {world.stable: a_tally(900)}
    world.wait(300)
    world.broken.clear()
    world.settle()
    assert world.experiment()["stable"]["requests"] == 100
    world.tallies = {world.stable: a_tally(950)}
    world.wait(30)
    assert world.experiment()["stable"]["requests"] == 150


def test_its_end_is_told_with_its_numbers():
    world = running(by_header(variant=LONGER))
    world.experiments = {"beta": a_tally(40)}
    world.wait(30)
    before = world.status
    world.change(traffic={})
    world.settle()
    [event] = [one for one in events_of(before, world.status) if one.action == "Experiment"]
    assert event.reason == "ExperimentEnded"
    assert "40 requests, 0 errors, p50" in event.message


def test_a_clock_that_is_set_back_keeps_no_pods():
    world = running(by_header(variant=LONGER))
    world.change(traffic={})
    world.settle()
    world.pass_time(-3600)
    world.settle()
    world.wait(11)
    assert world.revisions() == {world.stable}
    assert not world.has_router


# -- crashes ---------------------------------------------------------------------------------------


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(min_value=0, max_value=12), max_size=12))
def test_a_kill_between_any_two_writes_leads_to_the_same(crashes):
    world = serving()
    stable = world.status["servingRevision"]
    world.change(traffic={"experiments": [by_header(variant=LONGER)]})
    _crashing(world, crashes)
    world.settle()
    assert world.experiment()["phase"] == "Running"
    world.change(traffic={})
    _crashing(world, crashes)
    world.settle()
    world.wait(30)
    assert world.revisions() == {stable}
    assert not world.has_router


def _crashing(world, crashes):
    """Each look ends after so many writes; one with more than there are also loses its report."""
    for most in crashes:
        plan = world.plan()
        done = [*plan.writes, *plan.removals][:most]
        writes = tuple(one for one in done if one in plan.writes)
        removals = tuple(one for one in done if one in plan.removals)
        world.apply(_part(plan, writes, removals))
        world._play()
        world.check()
        if most % 2:
            world._report()


def _part(plan, writes, removals):
    return replace(plan, writes=writes, removals=removals, pod_labels=())
