"""The EndpointSlice that leads a server's own Service to the gateway, beside or without its pods.

The Service keeps its selector: what its controller writes and this slice add up. The port is that
at which the gateway holds requests of this server and of no other.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.resources import names
from modelserver_operator.resources.containers import PORT_NAME
from modelserver_operator.resources.kinds import ENDPOINT_SLICE, POD
from modelserver_operator.resources.labels import MANAGED_BY
from modelserver_operator.resources.metadata import make_child

SERVICE_NAME = "kubernetes.io/service-name"
# By another name than the controller's own, which leaves such slices alone.
SLICE_MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MOST_ENDPOINTS = 100  # as many as the controller itself puts into a slice

_FAMILIES = {4: "IPv4", 6: "IPv6"}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class GatewayPod:
    """A pod of the gateway that is ready."""

    address: str
    name: str
    namespace: str
    node: str


def make_holder_slices(
    server: ModelServer, pods: Iterable[GatewayPod], *, port: int, service: str = ""
) -> Iterator[dict[str, Any]]:
    """One for each family of addresses; none while there is no gateway.

    Behind `service`, or the server's own where that is empty.
    """
    service = service or names.root_service(server.name)
    by_family: dict[str, list[GatewayPod]] = {}
    for pod in sorted(pods):
        by_family.setdefault(_FAMILIES[ip_address(pod.address).version], []).append(pod)
    for family, found in sorted(by_family.items()):
        body = {
            "addressType": family,
            "endpoints": [_endpoint(one) for one in found[:MOST_ENDPOINTS]],
            "ports": [_port(port)],
        }
        name = names.holder_slice(service, family)
        yield make_child(server, ENDPOINT_SLICE, name, body, more_labels=_labels(service))


def _labels(service: str) -> dict[str, str]:
    return {SERVICE_NAME: service, SLICE_MANAGED_BY: MANAGED_BY}


def _endpoint(pod: GatewayPod) -> dict[str, Any]:
    return {
        "addresses": [pod.address],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": pod.node,
        "targetRef": {"kind": POD.kind, "name": pod.name, "namespace": pod.namespace},
    }


def _port(number: int) -> dict[str, Any]:
    """Of the same name as the Service's: so its port 80 leads there."""
    return {"name": PORT_NAME, "port": number, "protocol": "TCP", "appProtocol": "http"}
