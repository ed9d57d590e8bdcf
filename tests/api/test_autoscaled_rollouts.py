"""Rollouts of servers that are scaled: neither takes pods from the other."""

import pytest

from support.played_scaling import GATEWAY, gateway_pod, resource_metrics
from support.played_traffic import Behaviour
from support.rollouts import canary

pytestmark = pytest.mark.usefixtures("stage")

BY_LOAD = {"minReplicas": 2, "maxReplicas": 6, "scaleDownDelaySeconds": 0}
BY_CPU = {"minReplicas": 2, "maxReplicas": 6, "metrics": [{"name": "cpu", "target": 70}]}
HELD = canary(steps=[{"weightPercent": 50, "holdSeconds": 3600}, {"weightPercent": 100}])


def begin(play, autoscaling, **spec):
    """`replicas: 1` is what the API server takes for "not given"."""
    return play.begin(spec.pop("rollout", None), replicas=1, autoscaling=autoscaling, **spec)


def pods(play, revision):
    deployment = play.servers.child("Deployment", f"chat-{revision}")
    return deployment["spec"]["replicas"] if deployment else 0


def hpa(play, revision):
    return play.servers.child("HorizontalPodAutoscaler", f"chat-{revision}")


def test_a_run_is_as_large_as_the_load_and_nothing_shrinks_in_it(play):
    old = begin(play, BY_LOAD, rollout=HELD)
    play.until(lambda _: pods(play, old) == 2, "two pods")
    new = play.change()
    play.until(lambda _: pods(play, new) == 1, "half of two")
    play.stage.traffic.in_flight["chat"] = 32
    play.until(lambda _: pods(play, old) == 4 and pods(play, new) == 2, "four, and half of that")
    play.stage.traffic.in_flight["chat"] = 0
    asked = play.stage.traffic.questions["chat"]
    play.until(lambda _: play.stage.traffic.questions["chat"] > asked + 12, "more looks")
    assert (pods(play, old), pods(play, new)) == (4, 2)
    play.obey("promote-full", new)
    play.until_promoted(new)
    play.until_only(new)
    play.until(lambda _: pods(play, new) == 2, "as few as the load needs")


def test_both_revisions_of_a_run_have_an_autoscaler_and_its_least_is_what_the_run_needs(play):
    with resource_metrics(play.servers.kube):
        old = begin(play, BY_CPU, rollout=HELD)
        play.until(lambda _: hpa(play, old), "the first autoscaler")
        new = play.change()
        play.until(lambda _: hpa(play, new), "one of the new revision")
        least = {one: hpa(play, one)["spec"]["minReplicas"] for one in (old, new)}
        assert least == {old: 2, new: 1}
        play.obey("promote-full", new)
        play.until_promoted(new)
        play.until_only(new)
        play.until(lambda _: hpa(play, new)["spec"]["minReplicas"] == 2, "its least at rest")
        assert pods(play, new) >= 2
        assert hpa(play, old) is None


def test_a_rollback_has_the_pods_that_the_load_needs(play):
    old = begin(play, BY_LOAD)
    play.stage.traffic.in_flight["chat"] = 24
    play.until(lambda _: pods(play, old) == 3, "three pods")
    play.servers.wait_settled("chat")
    new = play.change(runtime={"args": ["--bad"]})
    play.stage.traffic.behaviours[new] = Behaviour(error_percent=20)
    play.until_rolled_back(old)
    assert pods(play, old) == 3


def test_a_canary_waits_while_the_server_sleeps_and_begins_when_a_request_wakes_it(play):
    zero = {"minReplicas": 0, "maxReplicas": 2, "zero": {"idleSeconds": 10}}
    play.stage.traffic.idle.add("chat")
    with gateway_pod(play.servers.kube):
        old = begin(play, zero)
        cold = lambda status: status["scaling"].get("zero", {}).get("phase") == "Cold"  # noqa: E731
        play.until(cold, "sleep")
        new = play.change()
        play.until(lambda status: status["rollout"].get("paused"), "the run waits")
        assert (pods(play, old), pods(play, new)) == (0, 0)
        play.stage.traffic.idle.discard("chat")
        path = play.servers.child_path("Deployment", f"chat-{old}")
        answer = play.servers.kube.ask(
            "PATCH",
            f"{path}/scale",
            {"spec": {"replicas": 1}},
            content_type="application/merge-patch+json",
            params={"fieldManager": GATEWAY},
        )
        assert answer.is_success
        play.until_promoted(new)
