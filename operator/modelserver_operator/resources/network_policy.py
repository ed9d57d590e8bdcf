"""NetworkPolicies by phase: fetching may reach artefact sources, serving may not."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from modelserver_operator.apis.pods import EgressPeer, NetworkPeer, NetworkPolicyMode
from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.config import OperatorConfig
from modelserver_operator.resources import labels, names
from modelserver_operator.resources.containers import PORT
from modelserver_operator.resources.kinds import NETWORK_POLICY
from modelserver_operator.resources.metadata import make_child
from modelserver_operator.resources.router import ADMIN_PORT

HTTPS_PORT = 443
DNS_PORT = 53

NAMESPACE_NAME = "kubernetes.io/metadata.name"
CLUSTER_DNS = {
    "namespaceSelector": {"matchLabels": {NAMESPACE_NAME: "kube-system"}},
    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
}

# Everything but link-local addresses, where clouds answer with the node's credentials.
ANYWHERE = (
    {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}},
    {"ipBlock": {"cidr": "::/0", "except": ["fe80::/10", "fd00:ec2::254/128"]}},
)

type Rule = dict[str, Any]


def make_serving_policy(server: ModelServer, config: OperatorConfig) -> dict[str, Any]:
    """Selects all pods of the server in every phase; policies of other phases only add to it."""
    restricted = server.spec.network.policy is NetworkPolicyMode.RESTRICTED
    spec = {
        "podSelector": {"matchLabels": labels.server_selector(server.name)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": _restricted_ingress(server, config) if restricted else [_to_port({})],
        "egress": _restricted_egress(server) if restricted else [{}],
    }
    name = names.serving_policy(server.name)
    return make_child(server, NETWORK_POLICY, name, {"spec": spec})


def make_fetching_policy(server: ModelServer, hub_endpoints: Iterable[str]) -> dict[str, Any]:
    """Adds the way to the hub for pods whose phase is fetching; hubs redirect to other hosts."""
    ports = sorted({HTTPS_PORT, *(_port(endpoint) for endpoint in hub_endpoints)})
    selector = {**labels.server_selector(server.name), labels.PHASE: labels.FETCHING}
    spec = {
        "podSelector": {"matchLabels": selector},
        "policyTypes": ["Egress"],
        "egress": [{"to": list(ANYWHERE), "ports": [_tcp(port) for port in ports]}],
    }
    name = names.fetching_policy(server.name)
    return make_child(server, NETWORK_POLICY, name, {"spec": spec})


def make_router_policy(server: ModelServer, config: OperatorConfig) -> dict[str, Any]:
    """Adds for the router's pods the way to the model's, and the door for who looks after them.

    What clients may do is in the policy of all pods of the server: they reach the router as they
    reach the model.
    """
    overseen = {"from": _overseers(config), "ports": [_tcp(ADMIN_PORT)]}
    to_models = {"to": [{"podSelector": _model_pods(server)}], "ports": [_tcp(PORT)]}
    spec = {
        "podSelector": {"matchLabels": labels.router_selector(server.name)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [overseen],
        "egress": [to_models],
    }
    name = names.router_policy(server.name)
    return make_child(server, NETWORK_POLICY, name, {"spec": spec})


def make_routed_policy(server: ModelServer) -> dict[str, Any]:
    """Lets the router in at the model's pods, whoever else may come."""
    router = {"podSelector": {"matchLabels": labels.router_selector(server.name)}}
    spec = {
        "podSelector": _model_pods(server),
        "policyTypes": ["Ingress"],
        "ingress": [_to_port({"from": [router]})],
    }
    name = names.routed_policy(server.name)
    return make_child(server, NETWORK_POLICY, name, {"spec": spec})


def _model_pods(server: ModelServer) -> Rule:
    """Those of every revision, and of nothing else."""
    has_revision = {"key": labels.REVISION, "operator": "Exists"}
    return {
        "matchLabels": labels.server_selector(server.name),
        "matchExpressions": [has_revision],
    }


def _port(endpoint: str) -> int:
    parts = urlsplit(endpoint)
    return parts.port or (80 if parts.scheme == "http" else HTTPS_PORT)


def _tcp(port: int) -> Rule:
    return {"protocol": "TCP", "port": port}


def _to_port(rule: Rule) -> Rule:
    return {**rule, "ports": [_tcp(PORT)]}


def _restricted_ingress(server: ModelServer, config: OperatorConfig) -> list[Rule]:
    chosen = [_peer(peer) for peer in server.spec.network.ingress_from]
    clients = chosen or [{"podSelector": {}}]
    return [
        _to_port({"from": clients}),
        _to_port({"from": _overseers(config)}),
        _to_port({"from": [_gateway(config)]}),
    ]


def _gateway(config: OperatorConfig) -> Rule:
    """The door of the whole cluster, which asks for keys where a server wants them."""
    return {
        "namespaceSelector": {"matchLabels": {NAMESPACE_NAME: config.namespace}},
        "podSelector": {"matchLabels": {labels.NAME: labels.GATEWAY_NAME}},
    }


def _overseers(config: OperatorConfig) -> list[Rule]:
    """The operator asks pods how far they have come; the monitoring scrapes their metrics."""
    operator = {
        "namespaceSelector": {"matchLabels": {NAMESPACE_NAME: config.namespace}},
        "podSelector": {"matchLabels": dict(config.pod_labels)},
    }
    if not config.monitoring_namespace:
        return [operator]
    matches = {"matchLabels": {NAMESPACE_NAME: config.monitoring_namespace}}
    return [operator, {"namespaceSelector": matches}]


def _restricted_egress(server: ModelServer) -> list[Rule]:
    dns_ports = [{"protocol": protocol, "port": DNS_PORT} for protocol in ("UDP", "TCP")]
    chosen = [_egress(peer) for peer in server.spec.network.egress_to]
    return [{"to": [CLUSTER_DNS], "ports": dns_ports}, *chosen]


def _peer(peer: NetworkPeer) -> Rule:
    dumped: Rule = peer.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return dumped


def _egress(peer: EgressPeer) -> Rule:
    rule: Rule = {"to": [_peer(peer.to)]}
    if peer.ports:
        rule["ports"] = [{"protocol": str(p.protocol), "port": p.port} for p in peer.ports]
    return rule
