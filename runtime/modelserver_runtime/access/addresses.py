"""Whose address a request has: that of the connection, unless a trusted proxy names another."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

type Address = IPv4Address | IPv6Address
type Network = IPv4Network | IPv6Network

# Every IPv6 subscriber has at least this much for itself, so that a limit by whole addresses
# would be none.
_IPV6_PREFIX = 64


def client_address(peer: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """`forwarded` are the values of X-Forwarded-For, to which each proxy has appended its client.

    Read from its end, the first address that is no trusted proxy's is the client's: what stands
    before it the client may have made up.
    """
    if not trusted or not forwarded:
        return peer
    address = _parsed(peer)
    hops = [hop for value in forwarded for hop in value.split(",")]
    while address is not None and hops and _is_trusted(address, trusted):
        before = _parsed(hops.pop())
        if before is None:
            break
        address = before
    return peer if address is None else str(address)


def is_trusted_peer(peer: str, trusted: Sequence[Network]) -> bool:
    """Whether what this peer says of others is believed."""
    address = _parsed(peer)
    return address is not None and _is_trusted(address, trusted)


def limited_part(address: str) -> str:
    """The part of an address that belongs to one client."""
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, _IPV6_PREFIX), strict=False))
    return address


def _is_trusted(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address in network for network in trusted)


def _parsed(text: str) -> Address | None:
    """Also 10.0.0.1:443 and [::1]:443; an IPv4 address in IPv6's clothes is an IPv4 address."""
    host = text.strip().strip('"')
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
