"""Whose `spec.replicas` is, by the API server's own account: what a hand-over stands on.

The design rests on these: a field that its only owner leaves out falls back to the default of 1,
one with a second owner stays; a write through `/scale` takes the field from everybody; an apply
with force takes it back. The HPA here is the real one of kube-controller-manager, which needs no
metrics to go to its bounds.
"""

import json

import pytest

from modelserver_operator.apis.autoscaling import ScalingEngine
from modelserver_operator.scaling.handover import (
    GATEWAY_MANAGER,
    HANDOVER_MANAGER,
    MAIN_MANAGER,
    Step,
    WritersSeen,
    next_handover,
    ownership_of,
)
from support.waiting import wait_until

OURS, HANDOVER = MAIN_MANAGER, HANDOVER_MANAGER
LABELS = {"app": "chat"}


class Deployment:
    """One, and every number of replicas that it ever asked for."""

    def __init__(self, kube, namespace):
        self.kube, self.namespace = kube, namespace
        self.path = f"/apis/apps/v1/namespaces/{namespace}/deployments/chat"
        self.since = ""

    def apply_main(self, replicas=None):
        container = {"name": "server", "image": "registry.example/runtime:1"}
        template = {"metadata": {"labels": LABELS}, "spec": {"containers": [container]}}
        spec = {"selector": {"matchLabels": LABELS}, "template": template}
        made = self._apply(spec | ({} if replicas is None else {"replicas": replicas}), OURS)
        self.since = self.since or made["metadata"]["resourceVersion"]
        return made

    def apply_handover(self, replicas):
        return self._apply({"replicas": replicas}, HANDOVER)

    def _apply(self, spec, manager):
        metadata = {"name": "chat", "namespace": self.namespace}
        manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata}
        return self.kube.apply(manifest | {"spec": spec}, manager=manager)

    def scale(self, replicas, manager):
        """As the HPA, KEDA and `kubectl scale` do."""
        answer = self.kube.ask(
            "PATCH",
            f"{self.path}/scale",
            {"spec": {"replicas": replicas}},
            content_type="application/merge-patch+json",
            params={"fieldManager": manager},
        )
        assert answer.is_success, answer.text

    @property
    def live(self):
        return self.kube.get(self.path)

    @property
    def replicas(self):
        return self.live["spec"]["replicas"]

    @property
    def owners(self):
        """Who owns `spec.replicas`, with the subresource that it was written through."""
        fields = self.live["metadata"]["managedFields"]
        return {
            (one["manager"], one["operation"], one.get("subresource", ""))
            for one in fields
            if "f:replicas" in one["fieldsV1"].get("f:spec", {})
        }

    @property
    def history(self):
        """From a watch that begins in the past; an API server that has forgotten it says 410."""
        newest = self.live["metadata"]["generation"]
        events = []

        def has_come():
            events[:] = self._watched()
            return bool(events) and events[-1][0] >= newest

        wait_until(has_come, timeout=60, what=f"generation {newest} in the watch")
        return [replicas for _, replicas in events]

    def _watched(self):
        """Generation and replicas of every version since the first."""
        answer = self.kube.ask(
            "GET",
            self.path.rpartition("/")[0],
            params={"watch": "true", "resourceVersion": self.since, "timeoutSeconds": "2"},
        )
        assert answer.is_success, answer.text
        events = [json.loads(line) for line in answer.text.splitlines()]
        assert all(event["type"] == "MODIFIED" for event in events), events
        found = [event["object"] for event in events]
        return [(one["metadata"]["generation"], one["spec"]["replicas"]) for one in found]


@pytest.fixture
def deployment(kube, namespace):
    return Deployment(kube, namespace)


def test_a_field_that_its_only_owner_leaves_out_falls_to_one(deployment):
    """The dip, if nothing is done about it."""
    deployment.apply_main(4)
    deployment.apply_main()
    assert deployment.replicas == 1


def test_a_field_with_a_second_owner_stays(deployment):
    deployment.apply_main(4)
    deployment.apply_handover(4)
    assert deployment.owners == {(OURS, "Apply", ""), (HANDOVER, "Apply", "")}
    deployment.apply_main()
    assert deployment.owners == {(HANDOVER, "Apply", "")}
    assert set(deployment.history) == {4}


def test_a_write_through_scale_takes_the_field_from_everybody(deployment):
    deployment.apply_main(4)
    deployment.apply_handover(4)
    deployment.scale(6, "kube-controller-manager")
    assert deployment.owners == {("kube-controller-manager", "Update", "scale")}
    deployment.apply_main()
    assert deployment.replicas == 6


def test_what_another_has_scaled_is_taken_back_as_it_is_and_then_moved(deployment):
    deployment.apply_main(4)
    deployment.scale(6, "keda")
    deployment.apply_main(6)
    assert {owner for owner, *_ in deployment.owners} == {OURS, "keda"}
    deployment.apply_main(7)
    assert deployment.owners == {(OURS, "Apply", "")}
    assert min(deployment.history) == 6


def test_the_second_owner_of_an_earlier_time_is_no_obstacle(deployment):
    """Nobody ever tidies the hand-over's ownership up: the next write takes it."""
    deployment.apply_main(4)
    deployment.apply_handover(4)
    deployment.apply_main()
    deployment.apply_main(4)
    assert deployment.owners == {(OURS, "Apply", ""), (HANDOVER, "Apply", "")}
    deployment.apply_main(5)
    assert deployment.owners == {(OURS, "Apply", "")}


def test_a_wake_up_through_scale_is_seen_by_its_owner(deployment):
    deployment.apply_main(0)
    deployment.scale(1, GATEWAY_MANAGER)
    assert deployment.owners == {(GATEWAY_MANAGER, "Update", "scale")}
    assert ownership_of(deployment.live).is_woken
    deployment.apply_main(1)
    assert not ownership_of(deployment.live).is_woken
    assert OURS in {owner for owner, *_ in deployment.owners}


def an_hpa(namespace, least, most):
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat"}
    resource = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "chat", "namespace": namespace},
        "spec": {
            "scaleTargetRef": target,
            "minReplicas": least,
            "maxReplicas": most,
            "metrics": [{"type": "Resource", "resource": resource}],
        },
    }


def test_the_real_hpa_gets_the_field_and_gives_it_back_without_a_dip(deployment, kube, namespace):
    deployment.apply_main(4)
    deployment.apply_handover(4)
    deployment.apply_main()
    hpa = an_hpa(namespace, 6, 10)
    path = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers/chat"
    kube.apply(hpa, manager=OURS)
    wait_until(lambda: deployment.replicas == 6, timeout=300, what="the HPA's first write")
    assert deployment.owners == {("kube-controller-manager", "Update", "scale")}
    kube.delete(path)
    kube.wait_gone(path)
    deployment.apply_main(6)
    deployment.apply_main(7)
    assert deployment.owners == {(OURS, "Apply", "")}
    assert min(deployment.history) == 4
    assert deployment.history == sorted(deployment.history)


class Played:
    """The steps of the operator, each carried out on the real API server."""

    def __init__(self, deployment, kube, namespace):
        self.deployment, self.kube, self.namespace = deployment, kube, namespace
        self.hpa = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers/chat"
        self.took = []

    def step(self, wanted, desired):
        there = {ScalingEngine.HPA} if self.kube.get(self.hpa) else set()
        seen = WritersSeen(
            ownership=ownership_of(self.deployment.live), autoscalers=frozenset(there)
        )
        step = next_handover(wanted, desired, seen, is_scaled=True)
        self.carry_out(step, seen)
        self.took.append(step.step)
        return step

    def carry_out(self, step, seen):
        if step.shared_replicas is not None:
            self.deployment.apply_handover(step.shared_replicas)
            return
        self.deployment.apply_main(step.main_replicas)
        if step.autoscaler is ScalingEngine.HPA:
            self.kube.apply(an_hpa(self.namespace, desired_least(seen), 10), manager=OURS)
        elif seen.autoscalers:
            self.kube.delete(self.hpa)

    def until_done(self, wanted, desired):
        wait_until(lambda: self.step(wanted, desired).is_done, timeout=120, what=f"{wanted}")
        return self.deployment.replicas


def desired_least(seen):
    return seen.ownership.replicas


def test_the_operators_own_steps_never_lower_the_number(deployment, kube, namespace):
    deployment.apply_main(4)
    played = Played(deployment, kube, namespace)
    assert played.until_done(ScalingEngine.HPA, 4) == 4
    assert played.took == [Step.SHARE, Step.RELEASE, Step.CREATE, Step.DELEGATED]
    kube.apply(an_hpa(namespace, 6, 10), manager=OURS)
    wait_until(lambda: deployment.replicas == 6, timeout=300, what="the HPA's first write")
    played.took.clear()
    for _ in range(2):
        played.step(ScalingEngine.OPERATOR, 4)
    assert played.took == [Step.REMOVE, Step.FOLLOW]
    played.took[1:] = []
    assert played.until_done(ScalingEngine.OPERATOR, 6) == 6
    assert played.took == [Step.REMOVE, Step.OWN]
    assert played.until_done(ScalingEngine.HPA, 6) == 6
    assert deployment.history == sorted(deployment.history)
    played.until_done(ScalingEngine.HPA, 0)
    assert (deployment.replicas, kube.get(played.hpa)) == (0, None)
