"""`spec.replicas` changes hands without ever falling: against a model of the API server's rules.

The rules of the model are those that tests/api/test_replica_ownership.py proves on a real one.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_operator.apis.autoscaling import ScalingEngine
from modelserver_operator.scaling.handover import (
    GATEWAY_MANAGER,
    MAIN_MANAGER,
    Ownership,
    Step,
    WritersSeen,
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
    st.tuples(st.just("autoscale"), st.none()),
    st.tuples(st.just("collect"), st.none()),
)


@given(replicas=st.integers(2, 9), actions=st.lists(ACTIONS, max_size=40))
def test_whatever_is_wished_for_in_whatever_order_no_number_is_below_what_it_was(replicas, actions):
    """Kills between writes, looks that are old, and an autoscaler that is faster included."""
    api = Api()
    operator, wanted = Operator(api), OPERATOR
    operator.work(wanted, replicas)
    looked = api.look()
    for action, value in actions:
        match action:
            case "want":
                wanted = value
            case "look":
                looked = api.look()
            case "work":
                operator.work(wanted, replicas, most_writes=value)
            case "work on an old look":
                operator.work(wanted, replicas, looked=looked, most_writes=value)
            case "autoscale":
                api.autoscale(replicas)
            case "collect":
                api.ending.clear()
    assert set(api.seen) == {replicas}
    assert settle(operator, wanted, replicas, replicas).is_done
    assert set(api.seen) == {replicas}


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
    assert next_handover(HPA, 0, woken).step is Step.TAKE
