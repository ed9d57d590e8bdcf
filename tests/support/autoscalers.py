"""Stories of scaling: an `autoscaling`, and the objects that each engine is told by."""

import json
from pathlib import Path

import yaml

from modelserver_operator.apis.autoscaling import Autoscaling
from modelserver_operator.resources.holder_slice import GatewayPod, make_holder_slices
from modelserver_operator.resources.hpa import make_hpa
from modelserver_operator.resources.scaled_object import make_scaled_object

STORIES = Path(__file__).parents[1] / "operator" / "golden_scaling"
REVISION = "5d9f7c1a"
PROMETHEUS = "http://prometheus.monitoring:9090"
PODS = (
    GatewayPod(address="10.0.0.9", name="gateway-b", namespace="modelserver-system", node="two"),
    GatewayPod(address="10.0.0.8", name="gateway-a", namespace="modelserver-system", node="one"),
    GatewayPod(address="fd00::8", name="gateway-a", namespace="modelserver-system", node="one"),
)


def an_autoscaling(**fields):
    """As it would be read from the API: `maxReplicas` is 10 where nothing else is given."""
    return Autoscaling.model_validate_json(json.dumps({"maxReplicas": 10, **fields}))


def scaling_of(story):
    return an_autoscaling(**yaml.safe_load((STORIES / story / "in.yaml").read_text()))


def objects_of(server, scaling):
    """By the name of their file; an HPA only where it could measure anything."""
    least = max(1, scaling.min_replicas)
    most = scaling.max_replicas
    made = {
        "scaled_object.yaml": [
            make_scaled_object(
                server, REVISION, scaling, bounds=(least, most), prometheus_url=PROMETHEUS
            )
        ]
    }
    if scaling.is_only_of_resources:
        made["hpa.yaml"] = [make_hpa(server, REVISION, scaling, least=least, most=most)]
    if scaling.resting:
        made["holder.yaml"] = list(make_holder_slices(server, PODS, port=20_001))
    return made
