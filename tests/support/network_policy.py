"""An evaluator of NetworkPolicy objects, after their definition in the Kubernetes API.

Pure: it says what the objects mean, not what a network plugin does. A flow passes if the egress
policies of its source and the ingress policies of its destination both let it.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

type Manifest = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    namespace: str
    labels: dict[str, str]
    ip: str = "10.0.0.1"
    namespace_labels: dict[str, str] = field(default_factory=dict)
    named_ports: dict[str, int] = field(default_factory=dict)

    def all_namespace_labels(self) -> dict[str, str]:
        return {"kubernetes.io/metadata.name": self.namespace, **self.namespace_labels}


@dataclass(frozen=True)
class Address:
    """Something that is no pod of the cluster."""

    ip: str


type End = Pod | Address


@dataclass(frozen=True)
class Flow:
    source: End
    destination: End
    port: int
    protocol: str = "TCP"


def passes(flow: Flow, policies: Iterable[Manifest]) -> bool:
    policies = list(policies)
    return _leaves(flow, policies) and _enters(flow, policies)


def _leaves(flow: Flow, policies: list[Manifest]) -> bool:
    rules = _rules(flow.source, policies, "Egress")
    return rules is None or any(_allows(rule, "to", flow, flow.destination) for rule in rules)


def _enters(flow: Flow, policies: list[Manifest]) -> bool:
    rules = _rules(flow.destination, policies, "Ingress")
    return rules is None or any(_allows(rule, "from", flow, flow.source) for rule in rules)


def _rules(end: End, policies: list[Manifest], direction: str) -> list[Any] | None:
    """All rules of the direction for a pod; None if no policy isolates it there."""
    if isinstance(end, Address):
        return None
    isolating = [
        policy
        for policy in policies
        if policy["metadata"]["namespace"] == end.namespace
        and _selects(policy["spec"]["podSelector"], end.labels)
        and direction in _types(policy["spec"])
    ]
    if not isolating:
        return None
    return [rule for policy in isolating for rule in policy["spec"].get(direction.lower()) or []]


def _types(spec: Manifest) -> list[str]:
    default = ["Ingress", "Egress"] if "egress" in spec else ["Ingress"]
    return spec.get("policyTypes") or default


def _allows(rule: Manifest, side: str, flow: Flow, other: End) -> bool:
    policy_namespace = flow.source if side == "to" else flow.destination
    assert isinstance(policy_namespace, Pod)
    peers = rule.get(side) or []
    fits = not peers or any(_is_peer(peer, other, policy_namespace.namespace) for peer in peers)
    return fits and _is_port(rule.get("ports") or [], flow)


def _is_port(ports: list[Manifest], flow: Flow) -> bool:
    return not ports or any(_is_one_port(port, flow) for port in ports)


def _is_one_port(port: Manifest, flow: Flow) -> bool:
    if port.get("protocol", "TCP") != flow.protocol:
        return False
    wanted = port.get("port")
    if wanted is None:
        return True
    if isinstance(wanted, str):
        named = flow.destination.named_ports if isinstance(flow.destination, Pod) else {}
        return named.get(wanted) == flow.port
    return wanted <= flow.port <= port.get("endPort", wanted)


def _is_peer(peer: Manifest, end: End, namespace: str) -> bool:
    if "ipBlock" in peer:
        return _is_in_block(peer["ipBlock"], end.ip)
    if isinstance(end, Address):
        return False
    if "namespaceSelector" in peer:
        fits = _selects(peer["namespaceSelector"], end.all_namespace_labels())
    else:
        fits = end.namespace == namespace
    return fits and _selects(peer.get("podSelector", {}), end.labels)


def _is_in_block(block: Manifest, ip: str) -> bool:
    def holds(cidr: str) -> bool:
        network, address = ipaddress.ip_network(cidr), ipaddress.ip_address(ip)
        return address.version == network.version and address in network

    return holds(block["cidr"]) and not any(map(holds, block.get("except") or []))


def _selects(selector: Manifest, labels: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels", "matchExpressions"}
    wanted = selector.get("matchLabels") or {}
    expressions = selector.get("matchExpressions") or []
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _fits_expression(one, labels) for one in expressions
    )


def _fits_expression(expression: Manifest, labels: dict[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or []
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case operator:
            raise AssertionError(f"unknown operator {operator}")
