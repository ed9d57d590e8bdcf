"""Which engine decides, why, and what it would take to have the one that is wished for."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from modelserver_operator.apis.autoscaling import (
    RESOURCE_METRICS,
    Autoscaling,
    MetricName,
    ScalingEngine,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalers:
    """What the cluster has that can scale or measure."""

    has_keda: bool = False  # ScaledObject of keda.sh/v1alpha1, with all fields that we write
    has_resource_metrics: bool = False  # metrics.k8s.io/v1beta1, of metrics-server for example
    has_prometheus: bool = False  # the operator knows its address


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChoice:
    """`problem` is a sentence for whoever wrote the spec, with `reason` as its code.

    It says that something which was asked for is not looked at, or that another engine than the
    one that was named decides.
    """

    engine: ScalingEngine
    reason: str
    message: str
    problem: str = ""
    ignored: frozenset[str] = frozenset()  # names of metrics, queries, triggers not looked at

    @property
    def is_outside(self) -> bool:
        """Whether somebody else than this operator writes the number of pods."""
        return self.engine in {ScalingEngine.HPA, ScalingEngine.KEDA}


def engine_of(scaling: Autoscaling, scalers: Scalers) -> EngineChoice:
    if scaling.engine is not ScalingEngine.AUTO:
        return _named(scaling, scalers)
    wished = [one for one in _wished(scaling) if _is_there(one, scalers)]
    ignored = {one: _ignored(one, scaling, scalers) for one in wished}
    best = min(wished, key=lambda one: len(ignored[one]))  # the first of equals
    choice = EngineChoice(
        engine=best,
        reason="Found",
        message=_why(best, scaling, scalers),
        ignored=frozenset(ignored[best]),
    )
    return _with_problem(choice, scaling, scalers)


def _wished(scaling: Autoscaling) -> tuple[ScalingEngine, ...]:
    """What `Auto` would like to take, the best first."""
    outside = ScalingEngine.HPA if scaling.is_only_of_resources else ScalingEngine.KEDA
    return (outside, ScalingEngine.OPERATOR)


def _named(scaling: Autoscaling, scalers: Scalers) -> EngineChoice:
    engine = scaling.engine
    ignored = _ignored(engine, scaling, scalers)
    message = f"spec.autoscaling.engine is {engine}"
    if not _is_there(engine, scalers) or ignored >= _asked(scaling):
        instead = _ignored(ScalingEngine.OPERATOR, scaling, scalers)
        lacking = " ".join(_lacking(engine, scaling, scalers, ignored))
        return EngineChoice(
            engine=ScalingEngine.OPERATOR,
            reason=f"{engine}Missing",
            message=message,
            problem=f"{message}, but {lacking} Until then the operator scales by itself.",
            ignored=frozenset(instead),
        )
    choice = EngineChoice(
        engine=engine, reason="Chosen", message=message, ignored=frozenset(ignored)
    )
    return _with_problem(choice, scaling, scalers)


def _with_problem(choice: EngineChoice, scaling: Autoscaling, scalers: Scalers) -> EngineChoice:
    if not choice.ignored:
        return choice
    names = " and ".join(sorted(choice.ignored))
    lacking = " ".join(_lacking(choice.engine, scaling, scalers, choice.ignored))
    return EngineChoice(
        engine=choice.engine,
        reason="MetricsMissing",
        message=choice.message,
        problem=f"{choice.engine} cannot look at {names}: {lacking}",
        ignored=choice.ignored,
    )


def _is_there(engine: ScalingEngine, scalers: Scalers) -> bool:
    return {
        ScalingEngine.HPA: scalers.has_resource_metrics,
        ScalingEngine.KEDA: scalers.has_keda,
    }.get(engine, True)


def _asked(scaling: Autoscaling) -> set[str]:
    return {
        *(metric.name for metric in scaling.measured),
        *(query.name for query in scaling.queries),
        *(trigger.name for trigger in scaling.triggers),
    }


def _ignored(engine: ScalingEngine, scaling: Autoscaling, scalers: Scalers) -> set[str]:
    """What the engine cannot look at in this cluster."""
    return {*_unseen(engine, scaling, scalers)}


def _unseen(engine: ScalingEngine, scaling: Autoscaling, scalers: Scalers) -> Iterator[str]:
    if not _is_there(engine, scalers):
        yield from _asked(scaling)
        return
    for metric in scaling.measured:
        if not _sees(engine, metric.name, scalers):
            yield metric.name
    if engine is ScalingEngine.HPA or not scalers.has_prometheus:
        yield from (query.name for query in scaling.queries)
    if engine is not ScalingEngine.KEDA:
        yield from (trigger.name for trigger in scaling.triggers)


def _sees(engine: ScalingEngine, metric: MetricName, scalers: Scalers) -> bool:
    """The operator asks the pods themselves."""
    if engine is ScalingEngine.OPERATOR:
        return True
    if metric in RESOURCE_METRICS:
        return scalers.has_resource_metrics
    return engine is ScalingEngine.KEDA and scalers.has_prometheus


def _lacking(
    engine: ScalingEngine, scaling: Autoscaling, scalers: Scalers, ignored: AbstractSet[str]
) -> Iterator[str]:
    """What to do about it, in sentences."""
    if engine is ScalingEngine.KEDA and not scalers.has_keda:
        yield (
            "the cluster has no ScaledObject of keda.sh/v1alpha1. Install KEDA 2.17 or later, or"
            " set engine to Auto."
        )
        return
    if ignored & RESOURCE_METRICS:
        yield (
            "the cluster has no metrics.k8s.io/v1beta1. Install metrics-server, or set engine to"
            " Operator."
        )
    triggers = {trigger.name for trigger in scaling.triggers}
    if ignored - RESOURCE_METRICS - triggers:
        yield (
            "the operator knows no Prometheus. Set MODELSERVER_OPERATOR_PROMETHEUS_URL, or use"
            " metrics that the pods tell with engine Operator."
        )
    if ignored & triggers:
        yield "triggers need KEDA. Install KEDA 2.17 or later, or remove them."


def _why(engine: ScalingEngine, scaling: Autoscaling, scalers: Scalers) -> str:
    match engine:
        case ScalingEngine.HPA:
            return "only cpu and memory are asked for, and the cluster measures them"
        case ScalingEngine.KEDA:
            return "more than cpu and memory is asked for, and the cluster has KEDA"
        case _ if scaling.is_only_of_resources:
            return "the cluster has no metrics.k8s.io, so the operator asks the pods themselves"
        case _ if not scalers.has_keda:
            return "the cluster has no KEDA, so the operator asks the pods themselves"
        case _:
            return "KEDA knows no Prometheus, so the operator asks the pods themselves"
