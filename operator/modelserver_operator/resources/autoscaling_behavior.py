"""How fast an HPA may go, ours or KEDA's: as the operator's own engine does.

Every field that the API server would fill in is written, so that nothing differs afterwards.
"""

from typing import Any

from modelserver_operator.apis.autoscaling import Autoscaling
from modelserver_operator.resources import names
from modelserver_operator.resources.kinds import DEPLOYMENT

# The HPA's own defaults for growing: in 15 s to twice the pods or by four, whichever is more.
_GROWTH_SECONDS, _GROWTH_PERCENT, _GROWTH_PODS = 15, 100, 4

type Part = dict[str, Any]


def make_behavior(scaling: Autoscaling) -> Part:
    """Down to what the last `scaleDownDelaySeconds` needed, and then at once."""
    return {
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "selectPolicy": "Max",
            "policies": [_policy("Pods", _GROWTH_PODS), _policy("Percent", _GROWTH_PERCENT)],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": scaling.scale_down_delay_seconds,
            "selectPolicy": "Max",
            "policies": [_policy("Percent", 100)],
        },
    }


def _policy(kind: str, value: int) -> Part:
    return {"type": kind, "value": value, "periodSeconds": _GROWTH_SECONDS}


def make_target(server_name: str, revision: str) -> Part:
    return {
        "apiVersion": DEPLOYMENT.api_version,
        "kind": DEPLOYMENT.kind,
        "name": names.revision_child(server_name, revision),
    }
