"""The ScaledObject of a revision: all triggers, of the runtime's own metrics too, for KEDA.

KEDA decides between one pod and the most. It never scales to zero and never back from it, and it
leaves the number of pods as it is when it goes.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from modelserver_operator.apis.autoscaling import (
    RESOURCE_METRICS,
    Autoscaling,
    Day,
    MetricName,
    ScalingMetric,
    ScalingTrigger,
    Schedule,
    TriggerMetric,
    minutes_of,
    zone_of,
)
from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.resources import names
from modelserver_operator.resources.autoscaling_behavior import make_behavior, make_target
from modelserver_operator.resources.containers import SERVER
from modelserver_operator.resources.kinds import SCALED_OBJECT
from modelserver_operator.resources.metadata import make_child

# So many looks of the HPA in a row must fail before the pods that are there are kept by `fallback`.
# KEDA's own `pollingInterval` is not written: with one pod or more nothing is scaled by it, and
# KEDA's admission warns of it at every write.
FAILURES = 3

# Sums over the pods of a revision; `{pods}` selects them by the labels that the Prometheus operator
# gives to whatever it scrapes.
_QUERIES: Mapping[MetricName, str] = {
    MetricName.IN_FLIGHT: "sum(modelserver_inflight_requests{{{pods}}})",
    MetricName.QUEUE_DEPTH: "sum(modelserver_queue_depth{{{pods}}})",
    MetricName.TOKENS_PER_SECOND: "sum(rate(modelserver_generated_tokens_total{{{pods}}}[1m]))",
    MetricName.GPU: (
        '100 * sum(avg by (pod) (modelserver_hardware_utilization{{{pods},device!="cpu"}}))'
    ),
}
_CRON_DAYS = {day: (number + 1) % 7 for number, day in enumerate(Day)}  # of cron, Sunday is 0

type Part = dict[str, Any]


def make_scaled_object(
    server: ModelServer,
    revision: str,
    scaling: Autoscaling,
    *,
    bounds: tuple[int, int],
    prometheus_url: str,
    ignored: frozenset[str] = frozenset(),
) -> Part:
    """`bounds` are the least, 1 or more, and the most; `ignored` what cannot be asked."""
    least, most = bounds
    triggers = list(_triggers(server, revision, scaling, prometheus_url, ignored))
    spec = {
        "scaleTargetRef": make_target(server.name, revision),
        "minReplicaCount": least,
        "maxReplicaCount": most,
        "advanced": {
            "restoreToOriginalReplicaCount": False,
            "horizontalPodAutoscalerConfig": {
                "name": names.autoscaler_of_keda(server.name, revision),
                "behavior": make_behavior(scaling),
            },
        },
        "triggers": triggers,
        **_fallback(triggers, least),
    }
    name = names.autoscaler(server.name, revision)
    return make_child(server, SCALED_OBJECT, name, {"spec": spec}, revision=revision)


def _fallback(triggers: list[Part], least: int) -> Part:
    """What cannot be measured takes no pod away. KEDA refuses it for cpu and memory alone."""
    if not any(_has_fallback(one) for one in triggers):
        return {}
    return {
        "fallback": {
            "failureThreshold": FAILURES,
            "replicas": least,
            "behavior": "currentReplicasIfHigher",
        }
    }


def _has_fallback(trigger: Part) -> bool:
    return bool(trigger["metricType"] == TriggerMetric.AVERAGE_VALUE)


def _triggers(
    server: ModelServer,
    revision: str,
    scaling: Autoscaling,
    prometheus_url: str,
    ignored: frozenset[str],
) -> Iterator[Part]:
    pods = f'namespace="{server.namespace}",pod=~"{names.revision_child(server.name, revision)}-.+"'
    for metric in (one for one in scaling.measured if one.name not in ignored):
        if metric.name in RESOURCE_METRICS:
            yield _resource(metric)
        else:
            query = _QUERIES[metric.name].format(pods=pods)
            yield _prometheus(f"metric-{metric.name}", query, str(metric.target), prometheus_url)
    for one in (query for query in scaling.queries if query.name not in ignored):
        yield _prometheus(f"query-{one.name}", one.query, one.target, prometheus_url)
    yield from (_given(one) for one in scaling.triggers if one.name not in ignored)
    yield from (_cron(one) for one in scaling.schedules if zone_of(one.time_zone) is not None)


def _resource(metric: ScalingMetric) -> Part:
    return {
        "type": metric.name.value,
        "name": f"metric-{metric.name}",
        "metricType": "Utilization",
        "metadata": {"value": str(metric.target), "containerName": SERVER},
    }


def _prometheus(name: str, query: str, target: str, url: str) -> Part:
    """No series is a failure and not 0: Prometheus that has lost its pods takes none away."""
    metadata = {
        "serverAddress": url,
        "query": query,
        "threshold": target,
        "ignoreNullValues": "false",
    }
    return {
        "type": "prometheus",
        "name": name,
        "metricType": TriggerMetric.AVERAGE_VALUE.value,
        "metadata": metadata,
    }


def _given(trigger: ScalingTrigger) -> Part:
    reference = trigger.authentication_ref
    credentials = (
        {"authenticationRef": {"name": reference.name, "kind": reference.kind.value}}
        if reference
        else {}
    )
    return {
        "type": trigger.type,
        "name": f"trigger-{trigger.name}",
        "metricType": trigger.metric_type.value,
        "metadata": dict(trigger.metadata),
        **credentials,
    }


def _cron(schedule: Schedule) -> Part:
    """Beside `minReplicaCount`, which the operator raises: it holds while no operator runs, too."""
    starting = [_CRON_DAYS[day] for day in schedule.days]
    ending = [(day + schedule.is_overnight) % 7 for day in starting]
    return {
        "type": "cron",
        "name": f"schedule-{schedule.name}",
        "metricType": TriggerMetric.AVERAGE_VALUE.value,
        "metadata": {
            "timezone": schedule.time_zone,
            "start": _cron_time(schedule.start, starting),
            "end": _cron_time(schedule.end, ending),
            "desiredReplicas": str(schedule.min_replicas),
        },
    }


def _cron_time(clock_time: str, days: list[int]) -> str:
    hour, minute = minutes_of(clock_time)
    return f"{minute} {hour} * * {','.join(str(day) for day in sorted(days))}"
