"""What a cluster decided when it was first brought up: its kind, ports and networks."""

import ipaddress
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Network
from typing import Self

from devcluster import ports
from devcluster.errors import ClusterStateError
from devcluster.kubeconfig import write_private
from devcluster.lock import locked
from devcluster.paths import ClusterFolder, existing_clusters, state_root

LOOPBACK = "127.0.0.1"
_MOST_NODE_CLUSTERS = 16
_API_ONLY_SERVICES = "10.96.0.0/12"  # no node routes it: wide, so that benchmarks never fill it


class Mode(StrEnum):
    """Whether a cluster can run pods, or only answers its API."""

    API_ONLY = "api-only"
    NODE = "node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """The addresses of one cluster: three ranges that no other cluster has."""

    link: IPv4Network
    pods: IPv4Network
    services: IPv4Network

    @classmethod
    def numbered(cls, number: int) -> Self:
        return cls(
            link=IPv4Network(f"10.200.{number}.0/30"),
            pods=IPv4Network(f"10.244.{number}.0/24"),
            services=IPv4Network(f"10.96.{number * 16}.0/20"),
        )

    @property
    def host(self) -> str:
        """The machine's end of the link, where the API server listens."""
        return str(self.link[1])

    @property
    def node(self) -> str:
        """The node's end of the link: kubelet, NodePorts."""
        return str(self.link[2])

    @property
    def dns(self) -> str:
        return str(self.services[10])

    def overlaps(self, other: IPv4Network) -> bool:
        return any(own.overlaps(other) for own in (self.link, self.pods, self.services))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRecord:
    """`number` picks the networks of a cluster with a node; it means nothing without one."""

    mode: Mode
    controllers: bool
    ports: dict[str, int]
    number: int = 0

    @property
    def networks(self) -> Networks:
        return Networks.numbered(self.number)

    @property
    def api_host(self) -> str:
        return self.networks.host if self.mode is Mode.NODE else LOOPBACK

    @property
    def service_range(self) -> str:
        return str(self.networks.services) if self.mode is Mode.NODE else _API_ONLY_SERVICES

    @property
    def server(self) -> str:
        return f"https://{self.api_host}:{self.ports['kube-apiserver']}"

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        values = json.loads(text)
        return cls(**{**values, "mode": Mode(values["mode"])})


PURPOSES = ("kube-apiserver", "etcd", "etcd-peer", "kube-controller-manager", "kube-scheduler")


def program_of(purpose: str) -> str:
    return purpose.removesuffix("-peer")


def load_record(folder: ClusterFolder) -> ClusterRecord | None:
    try:
        return ClusterRecord.from_json(folder.record.read_text())
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as e:
        raise ClusterStateError(
            f"{folder.record} cannot be read ({e}); take the cluster down and bring it up again: "
            f"python -m devcluster down --name {folder.name}"
        ) from e


def ensure_record(
    folder: ClusterFolder,
    *,
    mode: Mode,
    controllers: bool,
    routes: Sequence[IPv4Network],
    is_running: Callable[[str], bool],
) -> ClusterRecord:
    """Load the record or decide it; move ports that a stranger took while a program was down."""
    with _allocation():
        known = load_record(folder)
        record = known or _decide(folder, mode, routes)
        if record.mode is not mode:
            raise ClusterStateError(
                f"the cluster {folder.name} exists and is {record.mode}, but {mode} was asked for; "
                f"choose another --name, or end it: python -m devcluster down --name {folder.name}"
            )
        record = replace(record, controllers=record.controllers or controllers or mode is Mode.NODE)
        record = _with_free_ports(folder, record, is_running)
        if record != known:
            folder.root.mkdir(parents=True, exist_ok=True)
            write_private(folder.record, record.to_json())
        return record


def _decide(folder: ClusterFolder, mode: Mode, routes: Sequence[IPv4Network]) -> ClusterRecord:
    chosen = ports.choose_ports(folder.name, PURPOSES, host=LOOPBACK, taken=_promised(folder))
    number = _free_number(folder, routes) if mode is Mode.NODE else 0
    return ClusterRecord(mode=mode, controllers=False, ports=chosen, number=number)


def _with_free_ports(
    folder: ClusterFolder, record: ClusterRecord, is_running: Callable[[str], bool]
) -> ClusterRecord:
    lost = [
        purpose
        for purpose, port in record.ports.items()
        if not is_running(program_of(purpose)) and not ports.is_free(port, LOOPBACK)
    ]
    taken = _promised(folder) | set(record.ports.values())
    chosen = ports.choose_ports(folder.name, lost, host=LOOPBACK, taken=taken)
    return replace(record, ports={**record.ports, **chosen})


def _others(folder: ClusterFolder) -> list[ClusterRecord]:
    others = (other for other in existing_clusters() if other.root != folder.root)
    return [record for other in others if (record := _readable(other)) is not None]


def _readable(folder: ClusterFolder) -> ClusterRecord | None:
    try:
        return load_record(folder)
    except ClusterStateError:
        return None  # another cluster's damage must not stop this one


def _promised(folder: ClusterFolder) -> set[int]:
    return {port for other in _others(folder) for port in other.ports.values()}


def _free_number(folder: ClusterFolder, routes: Sequence[IPv4Network]) -> int:
    used = {other.number for other in _others(folder) if other.mode is Mode.NODE}
    for number in range(_MOST_NODE_CLUSTERS):
        networks = Networks.numbered(number)
        if number not in used and not any(networks.overlaps(route) for route in routes):
            return number
    raise ClusterStateError(
        f"no address range is left for another cluster with a node (at most {_MOST_NODE_CLUSTERS}, "
        "less what this machine routes itself); end one with `python -m devcluster down`"
    )


def routes_of(addresses: Sequence[str]) -> list[IPv4Network]:
    """The destinations that a new cluster must not cover; wide ones lose to ours and stay out."""
    widest = 12
    networks = (ipaddress.ip_network(address, strict=False) for address in addresses)
    return [
        network
        for network in networks
        if isinstance(network, IPv4Network) and network.prefixlen > widest
    ]


def _allocation() -> AbstractContextManager[None]:
    return locked(state_root())
