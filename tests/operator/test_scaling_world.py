"""Autoscaling as a whole, in memory: planner, status and what they do to one another."""

from dataclasses import replace
from datetime import timedelta

import pytest

from modelserver_operator.apis.autoscaling import ScalingEngine
from modelserver_operator.plan.scaling_values import ScalingHeard, ScalingObserved
from modelserver_operator.plan.values import ChildKey
from modelserver_operator.resources.holder_slice import GatewayPod
from modelserver_operator.resources.kinds import SCALED_OBJECT
from modelserver_operator.resources.router_choice import Capabilities
from modelserver_operator.scaling.samples import PodReading
from support.world import COMMIT, World

GATEWAY = GatewayPod(address="10.0.0.9", name="gw", namespace="modelserver-system", node="one")
MODEL = {"uri": "hf://example/tiny", "revision": COMMIT}
BY_CPU = {"maxReplicas": 5, "metrics": [{"name": "cpu", "target": 70}]}
BY_TRIGGER = {
    "maxReplicas": 5,
    "triggers": [{"name": "jobs", "type": "rabbitmq", "metadata": {"queueName": "jobs"}}],
}
HAS_METRICS = Capabilities(has_resource_metrics=True)
HAS_KEDA = Capabilities(kinds=frozenset({SCALED_OBJECT}))


def a_world(**autoscaling):
    return World(spec={"model": MODEL, "autoscaling": autoscaling})


def serving(world):
    world.steps(6)
    assert world.condition("Ready")["status"] == "True"
    return world


def loaded(world, in_flight, requests=1):
    """Every pod says at this moment that it answers so many."""
    readings = {
        pod["metadata"]["uid"]: PodReading(
            pod=pod["metadata"]["uid"], at=world.now, requests=requests, in_flight=in_flight
        )
        for pod in world.pods
    }
    heard = ScalingHeard(at=world.now, readings=readings)
    world.scaling = replace(world.scaling, heard=heard)


def deployment_key(world):
    return ChildKey("Deployment", f"chat-{world.status['servingRevision']}")


def pods(world):
    return world.children[deployment_key(world)]["spec"]["replicas"]


def kinds(world):
    return {key.kind for key in world.children}


def test_the_first_pod_is_there_before_anything_is_decided():
    world = a_world(maxReplicas=5, minReplicas=0)
    world.step()
    assert world.plan.sizing.replicas == 1
    assert world.plan.scaling_question is None


def test_what_pods_say_is_decided_first_and_carried_out_then():
    world = serving(a_world(maxReplicas=5))
    assert world.plan.scaling_question.pods
    loaded(world, 24)
    world.step()
    assert world.status["scaling"]["desired"] == 3
    assert pods(world) == 1, "what is not stored yet has no effect"
    world.scaling = ScalingObserved()
    events = world.step()
    assert pods(world) == 3
    assert [event.reason for event in events] == []


def test_each_change_of_the_number_is_an_event_with_its_reason():
    world = serving(a_world(maxReplicas=5))
    loaded(world, 24)
    (event,) = world.step()
    assert (event.reason, event.message) == ("Scaled", "Pods from 1 to 3: inflight 24/8.")


def test_a_server_that_grows_stays_ready():
    world = serving(a_world(maxReplicas=5))
    loaded(world, 24)
    world.step()
    status = world.look()  # three are wanted, and one is there
    conditions = {one["type"]: one["status"] for one in status["conditions"]}
    assert world.plan.sizing.replicas == 3
    assert conditions["Ready"] == "True"
    assert "Degraded" not in conditions


def test_a_number_that_somebody_edits_is_the_autoscalers_business():
    world = a_world(**BY_CPU)
    world.capabilities = HAS_METRICS
    world.steps(12)
    world.scale(deployment_key(world), 4, "kubectl-edit")
    world.step()
    assert world.plan.writes == ()
    assert pods(world) == 4


@pytest.mark.parametrize(
    ("autoscaling", "capabilities", "kind", "engine", "scaled_after"),
    [
        (BY_CPU, HAS_METRICS, "HorizontalPodAutoscaler", "HPA", "True"),
        (BY_TRIGGER, HAS_KEDA, "ScaledObject", "KEDA", "False"),
    ],
)
def test_the_number_is_handed_over_without_a_dip(
    autoscaling, capabilities, kind, engine, scaled_after
):
    world = a_world(**autoscaling, minReplicas=3)
    world.capabilities = capabilities
    seen = []
    for _ in range(12):
        world.step()
        if "servingRevision" in world.status:
            seen.append(pods(world))
    assert seen[-1] == 3
    assert seen == sorted(seen), "the number fell"
    assert kind in kinds(world)
    assert world.status["scaling"]["engine"] == engine
    world.scale(deployment_key(world), 5, "kube-controller-manager")
    world.steps(3)
    assert pods(world) == 5
    world.capabilities = Capabilities()
    after = []
    for _ in range(10):
        world.step()
        after.append(pods(world))
    assert kind not in kinds(world)
    assert set(after) == {5}
    assert world.status["scaling"]["engine"] == ScalingEngine.OPERATOR
    assert world.condition("Scaling")["status"] == scaled_after


def asleep():
    world = serving(a_world(maxReplicas=2, minReplicas=0, zero={"idleSeconds": 10}))
    world.scaling = ScalingObserved(gateways=(GATEWAY,))
    for _ in range(40):
        loaded(world, 0)
        world.step(seconds=5)
    assert world.status["scaling"]["zero"]["phase"] == "Cold"
    return world


def test_a_server_that_sleeps_is_ready_and_says_that_it_sleeps():
    world = asleep()
    assert pods(world) == 0
    assert world.summary["Ready"] == ("True", "Asleep")
    assert world.summary["Serving"] == ("False", "Asleep")
    (slices,) = [one for key, one in world.children.items() if key.kind == "EndpointSlice"]
    assert slices["endpoints"][0]["addresses"] == [GATEWAY.address]
    assert slices["ports"][0]["port"] == world.status["scaling"]["holderPort"]


def test_nobody_is_asked_while_there_are_no_pods():
    world = asleep()
    world.step()
    assert world.plan.scaling_question is None


def test_the_gateway_wakes_it_and_its_pod_is_left_alone_until_then():
    world = asleep()
    world.scale(deployment_key(world), 1, "modelserver-gateway")
    world.step()
    assert pods(world) == 1
    assert world.status["scaling"]["zero"]["phase"] == "Waking"
    world.steps(30)
    assert world.status["scaling"]["zero"]["phase"] == "Warm"
    assert "EndpointSlice" not in kinds(world)
    assert pods(world) == 1


def test_no_pod_of_a_revision_that_leaves_is_started_when_the_next_one_is_woken():
    """A request comes right after a change in sleep, while the old revision is not gone yet."""
    world = asleep()
    old = deployment_key(world)
    world.change(runtime={"args": ["--second"]})
    for _ in range(20):
        world.step()
        if deployment_key(world) != old:
            break
    world.scale(deployment_key(world), 1, "modelserver-gateway")
    seen = []
    for _ in range(8):
        world.step()
        seen.append(world.children[old]["spec"]["replicas"] if old in world.children else None)
    assert pods(world) == 1
    assert 0 in seen, "it had its time to settle"
    assert 1 not in seen


def test_suspended_means_no_pods_and_what_was_known_stays_known():
    world = serving(a_world(maxReplicas=5, minReplicas=2))
    before = world.status["scaling"]
    world.change(suspend=True)
    world.steps(3)
    assert pods(world) == 0
    assert world.status["scaling"] == before
    world.change(suspend=False)
    world.steps(6)
    assert pods(world) == 2


def test_two_servers_never_get_one_port():
    world = a_world(maxReplicas=2, minReplicas=0)
    world.scaling = ScalingObserved(taken_ports=frozenset({20_000, 20_001}))
    world.steps(6)
    assert world.status["scaling"]["holderPort"] == 20_002


def test_readings_are_not_taken_more_often_than_rates_need():
    world = serving(a_world(maxReplicas=5))
    world.scaling = ScalingObserved(last=ScalingHeard(at=world.now))
    world.look()
    assert world.plan.scaling_question is None
    world.now += timedelta(seconds=5)
    world.look()
    assert world.plan.scaling_question is not None
