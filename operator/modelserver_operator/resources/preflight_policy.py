"""NetworkPolicies of the preflight, for servers whose network is restricted.

Its pod is one of the server's, so the policy of all of them gives it the cluster's DNS, and what
`network.egressTo` names; these add the way to the revision that is examined, and the door there.
"""

from typing import Any

from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.resources import labels, names
from modelserver_operator.resources.containers import PORT
from modelserver_operator.resources.kinds import NETWORK_POLICY
from modelserver_operator.resources.metadata import make_child


def make_preflight_policies(
    server: ModelServer, revision: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    asking = {"matchLabels": labels.preflight_selector(server.name)}
    asked = {"matchLabels": labels.revision_selector(server.name, revision)}
    ports = [{"protocol": "TCP", "port": PORT}]
    way = {
        "podSelector": asking,
        "policyTypes": ["Ingress", "Egress"],
        "egress": [{"to": [{"podSelector": asked}], "ports": ports}],
    }
    door = {
        "podSelector": asked,
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": asking}], "ports": ports}],
    }
    return (
        make_child(server, NETWORK_POLICY, names.preflight_policy(server.name), {"spec": way}),
        make_child(server, NETWORK_POLICY, names.examined_policy(server.name), {"spec": door}),
    )
