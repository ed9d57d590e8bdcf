"""Which engine decides in which cluster, and what is said where it is not the one wished for."""

import itertools

import pytest

from modelserver_operator.apis.autoscaling import ScalingEngine
from modelserver_operator.scaling.engine import Scalers, engine_of
from support.autoscalers import an_autoscaling

HPA, KEDA, OPERATOR = ScalingEngine.HPA, ScalingEngine.KEDA, ScalingEngine.OPERATOR
RESOURCES = {"metrics": [{"name": "cpu", "target": 70}]}
SIGNALS = {"metrics": [{"name": "inflight", "target": 8}]}
QUERIES = {"queries": [{"name": "backlog", "query": "up", "target": "1"}]}
TRIGGERS = {"triggers": [{"name": "orders", "type": "kafka", "metadata": {"a": "b"}}]}
EVERYTHING = {"has_keda": True, "has_resource_metrics": True, "has_prometheus": True}

AUTO = {
    "cpu, everything there": (RESOURCES, EVERYTHING, HPA, ""),
    "cpu, only KEDA there": (RESOURCES, {"has_keda": True}, OPERATOR, ""),
    "cpu, nothing there": (RESOURCES, {}, OPERATOR, ""),
    "no metric, everything there": ({}, EVERYTHING, KEDA, ""),
    "no metric, nothing there": ({}, {}, OPERATOR, ""),
    "requests, everything there": (SIGNALS, EVERYTHING, KEDA, ""),
    "requests, no Prometheus": (SIGNALS, {"has_keda": True}, OPERATOR, ""),
    "requests, no KEDA": (SIGNALS, {"has_prometheus": True}, OPERATOR, ""),
    "a query, no KEDA": (QUERIES, {"has_prometheus": True}, OPERATOR, ""),
    "a query, nothing there": (QUERIES, {}, OPERATOR, "PROMETHEUS_URL"),
    "a trigger, KEDA there": (TRIGGERS, {"has_keda": True}, KEDA, ""),
    "a trigger, nothing there": (TRIGGERS, {}, OPERATOR, "triggers need KEDA"),
    "a trigger and requests, no Prometheus": (
        TRIGGERS | SIGNALS,
        {"has_keda": True},
        KEDA,
        "KEDA cannot look at inflight",
    ),
}


@pytest.mark.parametrize("case", AUTO)
def test_auto(case):
    fields, there, engine, problem = AUTO[case]
    choice = engine_of(an_autoscaling(**fields), Scalers(**there))
    assert choice.engine is engine
    assert (problem in choice.problem) if problem else not choice.problem
    assert choice.message


NAMED = {
    "HPA without metrics-server": (
        {"engine": "HPA", **RESOURCES},
        {"has_keda": True},
        OPERATOR,
        "Install metrics-server",
    ),
    "KEDA without KEDA": (
        {"engine": "KEDA", **SIGNALS},
        {"has_prometheus": True},
        OPERATOR,
        "Install KEDA 2.17 or later",
    ),
    "KEDA without Prometheus": (
        {"engine": "KEDA", **SIGNALS},
        {"has_keda": True},
        OPERATOR,
        "MODELSERVER_OPERATOR_PROMETHEUS_URL",
    ),
    "KEDA for cpu": ({"engine": "KEDA", **RESOURCES}, EVERYTHING, KEDA, ""),
    "the operator for anything": ({"engine": "Operator", **SIGNALS}, EVERYTHING, OPERATOR, ""),
    "HPA": ({"engine": "HPA", **RESOURCES}, {"has_resource_metrics": True}, HPA, ""),
}


@pytest.mark.parametrize("case", NAMED)
def test_an_engine_that_is_named_is_taken_or_missed_in_a_sentence(case):
    fields, there, engine, problem = NAMED[case]
    choice = engine_of(an_autoscaling(**fields), Scalers(**there))
    assert choice.engine is engine
    assert (problem in choice.problem) if problem else not choice.problem


@pytest.mark.parametrize("engine", ["Auto", "KEDA", "HPA", "Operator"])
@pytest.mark.parametrize("fields", [RESOURCES, SIGNALS, QUERIES, TRIGGERS])
def test_whatever_is_not_looked_at_is_said(engine, fields):
    scaling = an_autoscaling(**fields).model_copy(update={"engine": ScalingEngine(engine)})
    for there in itertools.product([True, False], repeat=3):
        choice = engine_of(scaling, Scalers(**dict(zip(EVERYTHING, there, strict=True))))
        assert bool(choice.ignored) <= bool(choice.problem)
        assert choice.engine is not ScalingEngine.AUTO
        has_all = not choice.ignored
        assert has_all or choice.engine is OPERATOR or choice.problem.startswith("KEDA cannot")
