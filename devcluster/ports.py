"""Chooses the loopback ports of a cluster: free now, and promised to no other cluster."""

import socket
import zlib
from collections.abc import Collection, Sequence

from devcluster.errors import ClusterStateError

_FIRST, _COUNT = 20000, 10000  # below Linux' ephemeral range and Kubernetes' NodePorts


def choose_ports(
    cluster: str, purposes: Sequence[str], *, host: str, taken: Collection[int]
) -> dict[str, int]:
    """Start at a place that the name decides, so that a cluster tends to get its ports again."""
    candidates = _candidates(cluster, taken)
    return {purpose: _next_free(candidates, host) for purpose in purposes}


def _candidates(cluster: str, taken: Collection[int]) -> list[int]:
    start = zlib.crc32(cluster.encode()) % _COUNT
    ordered = [_FIRST + (start + offset) % _COUNT for offset in range(_COUNT)]
    return [port for port in reversed(ordered) if port not in taken]  # popped from the end


def _next_free(candidates: list[int], host: str) -> int:
    while candidates:
        port = candidates.pop()
        if is_free(port, host):
            return port
    raise ClusterStateError(f"no port from {_FIRST} to {_FIRST + _COUNT - 1} is free on {host}")


def is_free(port: int, host: str) -> bool:
    """Whether a server could listen there; connections in TIME_WAIT do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
