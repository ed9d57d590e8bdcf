"""`spec.replicas` changes hands without ever falling: against a model of the API server's rules.

The rules of the model are those that tests/api/test_replica_ownership.py proves on a real one.
"""

from dataclasses import dataclass, field

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
    next_handover,
    ownership_of,
)

HPA, KEDA, OPERATOR = ScalingEngine.HPA, ScalingEngine.KEDA, ScalingEngine.OPERATOR
CONTROLLER = "kube-controller-manager"
DEFAULT = 1  # of the API, for spec.replicas


@dataclass
class Api:
    """One Deployment's `spec.replicas` under server-side apply, and the autoscalers beside it."""

    replicas: int = DEFAULT
    owners: set[str] = field(default_factory=set)
    exists: bool = False
    version: int = 0
    autoscalers: set[ScalingEngine] = field(default_factory=set)
    ending: set[ScalingEngine] = field(default_factory=set)
    seen: list[int] = field(default_factory=list)

    def apply(self, manager, replicas):
        """With force; None leaves the field out."""
        self.version += 1
        if replicas is not None:
            self.owners = {manager} if replicas != self.replicas else self.owners | {manager}
            self.replicas = replicas
        elif manager in self.owners:
            self.owners -= {manager}
            self.replicas = self.replicas if self.owners else DEFAULT
        self._changed()

    def scale(self, manager, replicas):
        if replicas != self.replicas:
            self.version += 1
            self.owners, self.replicas = {manager}, replicas
        self._changed()

    def _changed(self):
        self.exists = True
        self.seen.append(self.replicas)

    def look(self):
        """With the version that was looked at, by which every write is guarded."""
        ownership = Ownership(replicas=self.replicas, owners=frozenset(self.owners))
        return self.version, WritersSeen(
            ownership=ownership if self.exists else None,
            autoscalers=frozenset(self.autoscalers | self.ending),
        )

    def autoscale(self, demand):
        """What exists (and KEDA's HPA, while it ends) writes what it finds right."""
        if self.autoscalers | self.ending and self.replicas > 0:
            self.scale(CONTROLLER, demand)


class Operator:
    """Carries out a step write by write, and may be killed between two."""

    def __init__(self, api):
        self.api = api

    def work(self, wanted, desired, *, looked=None, most_writes=9):
        version, seen = looked or self.api.look()
        step = next_handover(wanted, desired, seen)
        for write in list(self.writes(step, seen, version))[:most_writes]:
            write()
        return step

    def writes(self, step, seen, version):
        api = self.api
        if step.shared_replicas is not None:
            yield lambda: self.guarded(version, HANDOVER_MANAGER, step.shared_replicas)
            return
        if step.main_replicas != (seen.ownership.replicas if seen.ownership else None) or (
            (step.main_replicas is not None) != (MAIN_MANAGER in owners_of(seen))
        ):
            yield lambda: self.guarded(version, MAIN_MANAGER, step.main_replicas)
        if step.autoscaler is not None:
            yield lambda: api.autoscalers.add(step.autoscaler)
        for gone in seen.autoscalers - {step.autoscaler}:
            yield lambda gone=gone: self.remove(gone)

    def guarded(self, version, manager, replicas):
        if self.api.version == version:
            self.api.apply(manager, replicas)

    def remove(self, engine):
        if engine in self.api.autoscalers:
            self.api.autoscalers.discard(engine)
            self.api.ending |= {engine} & {KEDA}  # its HPA is collected a moment later


def owners_of(seen):
    return seen.ownership.owners if seen.ownership else frozenset()


def settle(operator, wanted, desired, demand):
    """Until nothing is left to do: far fewer looks than this are needed."""
    for _ in range(12):
        step = operator.work(wanted, desired)
        operator.api.ending.clear()
        operator.api.autoscale(demand)
    return step


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
