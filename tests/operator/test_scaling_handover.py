"""`spec.replicas` changes hands without ever falling: against a model of the API server's rules.

The rules of the model are those that tests/api/test_replica_ownership.py proves on a real one.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_operator.apis.autoscaling import ScalingEngine
from modelserver_operator.scaling.handover import (
    GATEWAY_MANAGER,
    HANDOVER_MANAGER,
    MAIN_MANAGER,
    Ownership,
    Step,
    WritersSeen,
    is_unowned,
    next_handover,
    ownership_of,
)
from support.scaling_world import DEFAULT, Api, Operator, settle

HPA, KEDA, OPERATOR = ScalingEngine.HPA, ScalingEngine.KEDA, ScalingEngine.OPERATOR

PAIRS = [(old, new) for old in (OPERATOR, HPA, KEDA) for new in (OPERATOR, HPA, KEDA)]


@pytest.mark.parametrize(("old", "new"), PAIRS)
@pytest.mark.parametrize("replicas", [2, 5])
def test_every_switch_ends_with_one_writer_and_never_dips(old, new, replicas):
    api = Api()
    operator = Operator(api)
    assert settle(operator, old, replicas, replicas).is_done
    api.seen.clear()
    step = settle(operator, new, replicas, replicas)
    assert step.is_done
    assert min(api.seen, default=replicas) == replicas
    assert api.autoscalers == ({new} if new is not OPERATOR else set())
    assert (MAIN_MANAGER in api.owners) == (new is OPERATOR)


ACTIONS = st.one_of(
    st.tuples(st.just("want"), st.sampled_from([OPERATOR, HPA, KEDA])),
    st.tuples(st.just("look"), st.none()),
    st.tuples(st.just("work"), st.integers(0, 3)),
    st.tuples(st.just("work on an old look"), st.integers(0, 3)),
    st.tuples(st.just("autoscale"), st.integers(0, 2)),
    st.tuples(st.just("collect"), st.none()),
    st.tuples(st.just("store"), st.none()),
)


class Story:
    """Kills between writes, looks that are old, and an autoscaler that grows meanwhile.

    `desired` is what the operator has stored, which follows the number that somebody else writes.
    """

    def __init__(self, replicas, engine):
        self.api = Api()
        self.operator = Operator(self.api)
        self.wanted, self.desired, self.demand = engine, replicas, replicas
        settle(self.operator, engine, replicas, replicas)
        self.looked = self.api.look()

    def play(self, action, value):
        match action:
            case "want":
                self.wanted = value
            case "look":
                self.looked = self.api.look()
            case "work":
                self.work(most_writes=value)
            case "work on an old look":
                self.work(looked=self.looked, most_writes=value)
            case "autoscale":
                self.demand += value
                self.api.autoscale(self.demand)
            case "collect":
                self.api.ending.clear()
            case "store":
                self.store()

    def work(self, **more):
        return self.operator.work(self.wanted, self.desired, is_scaled=True, **more)

    def store(self):
        ownership = self.api.look()[1].ownership
        if not ownership.is_ours:
            self.desired = max(self.desired, ownership.replicas)

    def end(self):
        for _ in range(12):
            step = self.work()
            self.store()
            self.api.ending.clear()
        return step


@given(
    replicas=st.integers(2, 9),
    engine=st.sampled_from([OPERATOR, HPA, KEDA]),
    actions=st.lists(ACTIONS, max_size=40),
)
def test_whatever_is_wished_for_in_whatever_order_no_number_is_below_what_it_was(
    replicas, engine, actions
):
    story = Story(replicas, engine)
    for action, value in actions:
        story.play(action, value)
    assert story.end().is_done
    assert story.api.seen == sorted(story.api.seen)


def test_a_wish_that_was_stored_before_the_autoscaler_grew_follows_first():
    grown = WritersSeen(ownership=Ownership(replicas=8, owners=frozenset({"kcm"})))
    step = next_handover(OPERATOR, 3, grown, is_scaled=True)
    assert (step.step, step.main_replicas) == (Step.FOLLOW, None)
    assert next_handover(OPERATOR, 8, grown, is_scaled=True).main_replicas == 8


def test_a_number_that_somebody_has_written_is_carried_out_at_once():
    """`replicas: 3` where an autoscaler had 8, or where somebody has scaled by hand."""
    grown = WritersSeen(ownership=Ownership(replicas=8, owners=frozenset({"kubectl"})))
    assert next_handover(OPERATOR, 3, grown).main_replicas == 3


@pytest.mark.parametrize(
    ("spec", "owner", "subresource", "wanted"),
    [
        ({"replicas": 4}, "kube-controller-manager", "scale", True),
        ({"replicas": 4}, HANDOVER_MANAGER, "", True),
        ({"replicas": 4}, "kubectl-replace", "", False),
        ({"replicas": 4}, MAIN_MANAGER, "", False),
        ({}, "kube-controller-manager", "scale", False),
    ],
)
def test_the_same_number_by_an_autoscaler_is_written_again(spec, owner, subresource, wanted):
    fields = {"f:spec": {"f:replicas": {}}}
    entry = {"manager": owner, "subresource": subresource, "fieldsV1": fields}
    observed = {"metadata": {"managedFields": [entry]}, "spec": {"replicas": 4}}
    assert is_unowned({"spec": spec}, observed) is wanted


def test_the_model_has_the_dip_that_the_steps_avoid():
    api = Api()
    api.apply(MAIN_MANAGER, 4)
    api.apply(MAIN_MANAGER, None)
    assert api.replicas == DEFAULT


@pytest.mark.parametrize("engine", [HPA, KEDA])
def test_zero_is_the_operators_whoever_scales_otherwise(engine):
    api = Api()
    operator = Operator(api)
    settle(operator, engine, 3, 3)
    settle(operator, engine, 0, 3)
    assert (api.replicas, api.owners, api.autoscalers) == (0, {MAIN_MANAGER}, set())
    api.scale(GATEWAY_MANAGER, 1)
    assert ownership_from(api).is_woken
    settle(operator, engine, 1, 1)
    assert api.autoscalers == {engine}
    assert not ownership_from(api).is_woken


def ownership_from(api):
    return api.look()[1].ownership


@pytest.mark.parametrize("engine", [OPERATOR, HPA, KEDA])
def test_a_server_that_stayed_at_the_gateways_one_pod_is_not_taken_for_woken_when_it_sleeps(engine):
    api = Api()
    operator = Operator(api)
    settle(operator, OPERATOR, 0, 0)
    api.scale(GATEWAY_MANAGER, 1)
    settle(operator, OPERATOR, 1, 1)
    settle(operator, engine, 1, 1)
    for _ in range(6):
        assert not ownership_from(api).is_woken
        operator.work(engine, 0)
        api.ending.clear()
    assert api.replicas == 0


def test_an_autoscaler_that_finds_zero_by_hand_gets_a_pod_first():
    api = Api()
    operator = Operator(api)
    settle(operator, HPA, 3, 3)
    api.scale("kubectl", 0)
    assert settle(operator, HPA, 3, 3).step is Step.DELEGATED
    assert api.replicas == 3


def test_a_new_deployment_begins_with_the_number_that_is_wanted():
    step = next_handover(HPA, 4, WritersSeen())
    assert (step.step, step.main_replicas, step.autoscaler) == (Step.OWN, 4, None)


def test_owners_are_read_from_managed_fields():
    deployment = {
        "metadata": {
            "managedFields": [
                {"manager": "a", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
                {"manager": "b", "fieldsV1": {"f:spec": {"f:selector": {}}}},
                {"manager": "c", "fieldsV1": {"f:status": {"f:replicas": {}}}},
            ]
        },
        "spec": {"replicas": 3},
    }
    assert ownership_of(deployment) == Ownership(replicas=3, owners=frozenset({"a"}))


def test_a_pod_of_the_gateway_is_left_alone_only_while_the_server_sleeps():
    """Of a server that is suspended it is taken away."""
    woken = WritersSeen(ownership=Ownership(replicas=1, owners=frozenset({GATEWAY_MANAGER})))
    left = next_handover(HPA, 0, woken, is_asleep=True)
    assert (left.step, left.main_replicas) == (Step.WOKEN, None)
    taken = next_handover(HPA, 0, woken)
    assert (taken.step, taken.main_replicas) == (Step.OWN, 0)
