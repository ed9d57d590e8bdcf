"""What the condition `Scaling` tells of an HPA or of KEDA that cannot scale."""

import pytest

from modelserver_operator.plan.values import ChildKey
from modelserver_operator.resources.kinds import SCALED_OBJECT
from modelserver_operator.resources.router_choice import Capabilities
from support.world import COMMIT, World

MODEL = {"uri": "hf://example/tiny", "revision": COMMIT}
CPU = {"maxReplicas": 5, "metrics": [{"name": "cpu", "target": 70}]}
TRIGGERS = {
    "maxReplicas": 5,
    "triggers": [
        {"name": "jobs", "type": "rabbitmq", "metadata": {"queueName": "jobs"}},
        {"name": "lag", "type": "kafka", "metadata": {"topic": "prompts"}},
    ],
}


def a_world(autoscaling, capabilities):
    world = World(spec={"model": MODEL, "autoscaling": autoscaling})
    world.capabilities = capabilities
    world.steps(12)
    assert world.condition("Scaling")["status"] == "True"
    return world


@pytest.fixture
def with_keda():
    return a_world(TRIGGERS, Capabilities(kinds=frozenset({SCALED_OBJECT})))


@pytest.fixture
def with_hpa():
    return a_world(CPU, Capabilities(has_resource_metrics=True))


def told(world, manifest, status):
    """The condition after the autoscaler has got this status."""
    manifest["status"] = status
    world.steps(2)
    condition = world.condition("Scaling")
    return condition["status"], condition["reason"], condition["message"]


def autoscaler(world, kind):
    return world.children[ChildKey(kind, f"chat-{world.status['servingRevision']}")]


def states(**conditions):
    """`Ready="True"`, or with a reason and a message."""
    made = []
    for kind, state in conditions.items():
        status, reason, message = state if isinstance(state, tuple) else (state, "", "")
        made.append({"type": kind, "status": status, "reason": reason, "message": message})
    return {"conditions": made}


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"conditions": None},
        states(Ready="True", Active="False", Fallback="False"),
        states(Ready="Unknown", Fallback="Unknown"),
    ],
    ids=["new", "empty", "well", "unknown"],
)
def test_a_scaled_object_that_is_well_is_not_mentioned(with_keda, status):
    status, reason, message = told(with_keda, autoscaler(with_keda, "ScaledObject"), status)
    assert (status, reason) == ("True", "Found")
    assert "says" not in message


def test_what_keda_finds_wrong_is_told_in_its_words(with_keda):
    status = states(Ready=("False", "TriggerError", "no host in the metadata of rabbitmq"))
    status, reason, message = told(with_keda, autoscaler(with_keda, "ScaledObject"), status)
    assert (status, reason) == ("False", "AutoscalerFailing")
    assert "KEDA says: no host in the metadata of rabbitmq." in message
    assert "KEDA decides" in message


def test_what_keda_falls_back_for_is_named_as_in_the_spec(with_keda):
    """KEDA itself numbers the triggers."""
    health = {
        "s0-rabbitmq": {"status": "Happy", "numberOfFailures": 0},
        "s1-kafka": {"status": "Failing", "numberOfFailures": 4},
    }
    status = {**states(Ready="True", Fallback="True"), "health": health}
    status, reason, message = told(with_keda, autoscaler(with_keda, "ScaledObject"), status)
    assert (status, reason) == ("False", "AutoscalerFailing")
    assert "KEDA cannot measure trigger-lag, and takes no pod away." in message


def test_the_hpa_that_keda_has_made_is_heard_too(with_keda):
    revision = with_keda.status["servingRevision"]
    key = ChildKey("HorizontalPodAutoscaler", f"keda-hpa-chat-{revision}")
    why = ("False", "FailedGetExternalMetric", "unable to get external metric")
    made = {"metadata": {"name": key.name}, "spec": {}}
    with_keda.strangers[key] = made
    status, reason, message = told(with_keda, made, states(ScalingActive=why))
    assert (status, reason) == ("False", "AutoscalerFailing")
    assert "The HPA says: unable to get external metric." in message


@pytest.mark.parametrize("kind", ["ScalingActive", "AbleToScale"])
def test_what_keeps_the_hpa_from_scaling_is_told_in_its_words(with_hpa, kind):
    why = states(**{kind: ("False", "FailedGet", "no metrics known for pods")})
    manifest = autoscaler(with_hpa, "HorizontalPodAutoscaler")
    status, reason, message = told(with_hpa, manifest, why)
    assert (status, reason) == ("False", "AutoscalerFailing")
    assert "The HPA says: no metrics known for pods." in message
    assert told(with_hpa, manifest, states(**{kind: "True"}))[:2] == ("True", "Found")


def test_an_hpa_that_rests_because_there_are_no_pods_is_well(with_hpa):
    resting = states(ScalingActive=("False", "ScalingDisabled", "scaling is disabled"))
    manifest = autoscaler(with_hpa, "HorizontalPodAutoscaler")
    assert told(with_hpa, manifest, resting)[:2] == ("True", "Found")
