"""What is seen of a rollout: pods, routers, counts; and what is not believed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from modelserver_operator.plan.answers import Heard, Histogram, ModelAnswer, RouterAnswer, Tally
from modelserver_operator.plan.desired import desired_state
from modelserver_operator.resources.kinds import HTTP_ROUTE
from modelserver_operator.resources.router_choice import Capabilities
from modelserver_operator.status.sight import sight_of
from modelserver_operator.status.situation import Situation
from support import pod_outcomes
from support.planning import CONFIG
from support.running_world import replicas, router_pod, running_world

BEGAN = datetime(2026, 11, 21, 11, 0, tzinfo=UTC)
EDGES = (0.1, 1.0)


def latency(*buckets):
    return Histogram(edges_seconds=EDGES, buckets=buckets)


def tally(requests=100, errors=0, slow=0):
    return Tally(requests=requests, errors=errors, latency=latency(requests - slow, 0, slow))


def says(version, *, problem="", **tallies):
    return RouterAnswer(version=version, problem=problem, began=BEGAN, tallies=tallies)


def a_pod(revision, outcome=pod_outcomes.FINE, name="chat-x-1"):
    containers = {"containers": [{"name": "server", "image": "x"}], "nodeName": "stage"}
    owner = {"kind": "ReplicaSet", "name": "chat-x", "controller": True}
    pod = {
        "kind": "Pod",
        "metadata": {
            "name": name,
            "uid": f"uid-of-{name}",
            "labels": {"modelserver.dev/server": "chat", "modelserver.dev/revision": revision},
            "ownerReferences": [owner],
        },
        "spec": containers,
    }
    return pod | {"status": outcome.status_of(pod)}


def look(world, **heard):
    """What is seen when these answers were heard."""
    observed = replace(world.observe(), heard=Heard(**heard))
    server = world.server()
    plan = desired_state(server, observed, CONFIG, world.now)
    situation = Situation(server=server, observed=observed, plan=plan, now=world.now)
    assert plan.wish is not None
    return sight_of(situation, plan.wish)


@pytest.fixture
def running():
    """A run whose children are there, with two router pods; and the version of its route."""
    world, old, new = running_world()
    world.settle()
    world.pods += [router_pod("chat-router-1"), router_pod("chat-router-2")]
    return world, old, new, world.plan().route_version


def test_a_route_is_in_force_when_every_ready_router_says_so(running):
    world, *_, version = running
    both = {"chat-router-1": says(version), "chat-router-2": says(version)}
    assert look(world, routers=both).route.is_confirmed


@pytest.mark.parametrize("other", [{}, {"chat-router-2": says("00000000")}], ids=["mute", "late"])
def test_a_route_that_one_router_lacks_is_not_in_force(running, other):
    world, *_, version = running
    assert not look(world, routers={"chat-router-1": says(version)} | other).route.is_confirmed


def test_without_a_ready_router_no_route_is_in_force(running):
    world, *_, version = running
    world.pods.clear()
    assert not look(world, routers={"chat-router-1": says(version)}).route.is_confirmed


def test_why_a_router_refuses_a_route_is_told(running):
    world, *_ = running
    refusing = says("00000000", problem="weights must sum to 100")
    found = look(world, routers={"chat-router-1": refusing}).route
    assert found.refusal == "weights must sum to 100"


def test_counts_are_of_both_revisions_at_every_router(running):
    world, old, new, version = running
    answer = says(version, **{old: tally(80, slow=5), new: tally(20, errors=3)})
    answers = look(world, routers={"chat-router-1": answer}).answers
    counts = {one.revision: one.counts for one in answers.readings}
    assert (counts[old].requests, counts[old].slow) == (80, 5)
    assert (counts[new].requests, counts[new].errors) == (20, 3)


def test_a_revision_of_which_a_router_knows_nothing_has_a_base_as_well(running):
    world, old, new, version = running
    answers = look(world, routers={"chat-router-1": says(version, **{old: tally()})}).answers
    assert {one.revision: one.counts.requests for one in answers.readings} == {old: 100, new: 0}


def test_nobody_answers_is_said_with_who_was_asked(running):
    world, *_ = running
    found = look(world)
    assert found.answers is None
    assert "2 were asked" in found.metrics_unavailable
    assert "/router/status" in found.metrics_unavailable


def test_between_two_counts_nobody_is_missed(running):
    world, *_ = running
    counted = world.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    world.manifest["status"]["rollout"]["countedAt"] = counted
    found = look(world)
    assert (found.answers, found.metrics_unavailable) == (None, "")
    world.pass_time(3600)
    assert look(world).metrics_unavailable


def test_slow_is_what_nine_of_ten_of_the_stable_revision_were_not(running):
    world, old, _, version = running
    world.pods.append(a_pod(old))
    seen = ModelAnswer(began=BEGAN, tally=Tally(latency=latency(95, 5, 0)))
    routers = {"chat-router-1": says(version)}
    found = look(world, routers=routers, models={"chat-x-1": seen}).answers
    assert found.edges.latency == 100
    assert look(world, routers=routers).answers.edges.latency == 1000


def test_slow_stays_what_it_was_when_the_run_began(running):
    world, *_, version = running
    world.manifest["status"]["rollout"]["edges"] = {"latency": 250}
    assert look(world, routers={"chat-router-1": says(version)}).answers.edges is None


@pytest.mark.parametrize(
    ("outcome", "field"),
    [
        (pod_outcomes.image_not_pulled(), "hard_failure"),
        (pod_outcomes.exiting(46, code="UnsupportedModel"), "hard_failure"),
        (pod_outcomes.out_of_memory(), "hard_failure"),
        (pod_outcomes.unschedulable(), "unschedulable"),
    ],
    ids=["image", "model", "memory", "room"],
)
def test_what_is_wrong_with_pods_of_a_revision_is_told_of_that_one(running, outcome, field):
    world, old, new, _ = running
    world.pods.append(a_pod(new, outcome))
    found = look(world)
    assert getattr(found.of(new), field)
    assert not getattr(found.of(old), field)
    assert not found.of(new).is_settled


def test_a_first_crash_may_be_chance(running):
    world, _, new, _ = running
    pod = a_pod(new, pod_outcomes.out_of_memory())
    for status in pod["status"]["containerStatuses"]:
        status["restartCount"] = 1
    world.pods.append(pod)
    assert not look(world).of(new).hard_failure


def test_a_revision_is_settled_when_all_its_pods_are_ready_and_no_others_are_left(running):
    world, _, new, _ = running
    world.make_ready(new)
    assert look(world).of(new).is_settled
    assert look(world).of(new).wanted == replicas(world, new)
    world.deployment(new)["status"]["replicas"] += 1
    assert not look(world).of(new).is_settled


def test_a_router_that_the_cluster_lacks_is_told_and_not_written():
    world, *_ = running_world()
    world.change(traffic={"router": "Istio"})
    plan = world.plan()
    assert plan.route is None
    assert "VirtualService" not in {one.manifest["kind"] for one in plan.writes}
    assert "DestinationRule" in look(world).route.refusal


def test_a_gateway_that_has_not_answered_is_named(running):
    world, *_ = running
    plain = world.observe
    world.observe = lambda: replace(
        plain(), capabilities=Capabilities(kinds=frozenset({HTTP_ROUTE}))
    )
    world.change(traffic={"router": "GatewayAPI", "gateways": ["gateways/public"]})
    world.settle()
    found = look(world).route
    assert not found.is_confirmed
    assert not found.refusal
    assert "no answer of Gateway gateways/public" in found.waiting


def test_time_does_not_change_what_is_seen(running):
    world, *_ = running
    before = look(world)
    world.now += timedelta(seconds=1)
    assert replace(look(world), now=before.now) == before
