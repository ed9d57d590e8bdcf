"""The HorizontalPodAutoscaler of a revision: by cpu and memory of the container that serves.

Of that container only, because a sidecar that idles would halve the average.
"""

from typing import Any

from modelserver_operator.apis.autoscaling import RESOURCE_METRICS, Autoscaling, ScalingMetric
from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.resources import names
from modelserver_operator.resources.autoscaling_behavior import make_behavior, make_target
from modelserver_operator.resources.containers import SERVER
from modelserver_operator.resources.kinds import HORIZONTAL_POD_AUTOSCALER
from modelserver_operator.resources.metadata import make_child


def make_hpa(
    server: ModelServer, revision: str, scaling: Autoscaling, *, least: int, most: int
) -> dict[str, Any]:
    """`least` is 1 or more: zero is not the HPA's. Metrics of other engines are left out."""
    metrics = [_metric(one) for one in scaling.measured if one.name in RESOURCE_METRICS]
    spec = {
        "scaleTargetRef": make_target(server.name, revision),
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": metrics,
        "behavior": make_behavior(scaling),
    }
    name = names.autoscaler(server.name, revision)
    return make_child(server, HORIZONTAL_POD_AUTOSCALER, name, {"spec": spec}, revision=revision)


def _metric(metric: ScalingMetric) -> dict[str, Any]:
    target = {"type": "Utilization", "averageUtilization": metric.target}
    resource = {"name": metric.name.value, "container": SERVER, "target": target}
    return {"type": "ContainerResource", "containerResource": resource}
