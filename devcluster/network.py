"""The network of a node: a namespace of its own, a link to it, and the way out of it.

    machine ── dcN-host 10.200.N.1 ══ dcN-node 10.200.N.2 ── namespace: kube-proxy's rules,
                                                             bridge cni0 ── pods 10.244.N.0/24

Nothing of kube-proxy or of the pods touches the machine's own tables: several clusters and
Docker live beside each other, and removing the namespace removes all of it.
"""

import json
import shutil
from collections.abc import Sequence
from ipaddress import IPv4Network
from pathlib import Path

from devcluster.command import run, succeeds
from devcluster.errors import CommandError, MissingToolError
from devcluster.paths import ClusterFolder
from devcluster.record import ClusterRecord, Networks, routes_of

_BRIDGE_FILTER = "net/bridge/bridge-nf-call-iptables"
_KERNEL_MODULES = ("overlay", "br_netfilter", "veth")


def namespace(folder: ClusterFolder) -> Path:
    return folder.run / "network-namespace"


def inside(folder: ClusterFolder, argv: Sequence[str | Path]) -> list[str | Path]:
    """The command that runs in the node's network, and in all else where we are."""
    return ["nsenter", f"--net={namespace(folder)}", *argv]


def machine_routes() -> list[IPv4Network]:
    """What this machine routes itself, our own links left out."""
    routes = json.loads(run(["ip", "-json", "-4", "route", "show"]))
    foreign = (route for route in routes if not route.get("dev", "").endswith("-host"))
    return routes_of([route["dst"] for route in foreign if route["dst"] != "default"])


def ensure_network(folder: ClusterFolder, record: ClusterRecord) -> None:
    if not namespace(folder).is_mount():
        _load_kernel_modules()
        namespace(folder).touch()
        run(["unshare", f"--net={namespace(folder)}", "true"])
    if not succeeds(["ip", "link", "show", _host_end(record)]):
        _make_link(folder, record)
    _let_out(folder, record)


def _host_end(record: ClusterRecord) -> str:
    return f"dc{record.number}-host"


def _load_kernel_modules() -> None:
    """On most machines these are modules, on some built in; what counts is checked afterwards."""
    if shutil.which("modprobe"):
        for module in _KERNEL_MODULES:
            succeeds(["modprobe", module])


def _make_link(folder: ClusterFolder, record: ClusterRecord) -> None:
    networks, host, node = record.networks, _host_end(record), f"dc{record.number}-node"
    peer: list[str | Path] = ["peer", "name", node, "netns", namespace(folder)]
    run(["ip", "link", "add", host, "type", "veth", *peer])
    _configure_node_end(folder, networks, node)
    run(["ip", "-batch", "-"], stdin=_host_end_batch(networks, host, alias(folder)))


def _host_end_batch(networks: Networks, host: str, name: str) -> str:
    return (
        f"link set {host} alias {name}\n"
        f"addr add {networks.host}/{networks.link.prefixlen} dev {host}\n"
        f"link set {host} up\n"
        f"route add {networks.pods} via {networks.node} dev {host}\n"
        f"route add {networks.services} via {networks.node} dev {host}\n"
    )


def _configure_node_end(folder: ClusterFolder, networks: Networks, node: str) -> None:
    batch = (
        "link set lo up\n"
        f"addr add {networks.node}/{networks.link.prefixlen} dev {node}\n"
        f"link set {node} up\n"
        f"route add default via {networks.host} dev {node}\n"
    )
    run(inside(folder, ["ip", "-batch", "-"]), stdin=batch)
    settings = f"echo 1 > /proc/sys/net/ipv4/ip_forward && echo 1 > /proc/sys/{_BRIDGE_FILTER}"
    if not succeeds(inside(folder, ["sh", "-c", settings])):
        raise MissingToolError(
            f"/proc/sys/{_BRIDGE_FILTER} cannot be set: without the kernel module br_netfilter "
            "pods do not reach Services; load it (modprobe br_netfilter) and run again"
        )


def alias(folder: ClusterFolder) -> str:
    """What marks our links and firewall rules, so that `down` finds them without a record."""
    return f"devcluster-{folder.name}"


def _let_out(folder: ClusterFolder, record: ClusterRecord) -> None:
    """Pods reach the outside under the machine's address; nobody outside reaches pods.

    The rules are explicit because Docker sets the policy of FORWARD to DROP.
    """
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    link, host = str(record.networks.link), _host_end(record)
    answers = ["-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"]
    _ensure_rule(folder, "nat", "POSTROUTING", ["-s", link, "!", "-o", host, "-j", "MASQUERADE"])
    _ensure_rule(folder, "filter", "FORWARD", ["-o", host, "-j", "DROP"])
    _ensure_rule(folder, "filter", "FORWARD", ["-o", host, *answers, "-j", "ACCEPT"])
    _ensure_rule(folder, "filter", "FORWARD", ["-i", host, "-j", "ACCEPT"])


def _ensure_rule(folder: ClusterFolder, table: str, chain: str, rule: list[str]) -> None:
    marked = ["-m", "comment", "--comment", alias(folder), *rule]
    if not succeeds(["iptables", "-w", "-t", table, "-C", chain, *marked]):
        run(["iptables", "-w", "-t", table, "-I", chain, "1", *marked])


def remove_network(folder: ClusterFolder) -> None:
    """Remove the machine's side; the namespace goes with its last process and its mount."""
    for name in _links(alias(folder)):
        succeeds(["ip", "link", "delete", name])  # it may just have gone with its namespace
    if left := _links(alias(folder)):
        raise CommandError(f"the network links {', '.join(left)} cannot be deleted")
    for table in ("nat", "filter"):
        _remove_rules(table, alias(folder))


def _links(name: str) -> list[str]:
    links = json.loads(run(["ip", "-json", "link", "show"]))
    return [link["ifname"] for link in links if link.get("ifalias") == name]


def _remove_rules(table: str, mark: str) -> None:
    for line in run(["iptables", "-w", "-t", table, "-S"]).splitlines():
        words = line.split()
        if words[0] == "-A" and comment_of(words) == mark:
            arguments = [word.strip('"') for word in words[1:]]
            run(["iptables", "-w", "-t", table, "-D", *arguments])


def comment_of(words: list[str]) -> str:
    if "--comment" not in words:
        return ""
    return words[words.index("--comment") + 1].strip('"')


def resolver_configuration() -> str:
    """The machine's name servers as pods can use them: a resolver on loopback is not there."""
    stub, upstream = Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")
    source = upstream if upstream.exists() else stub
    return without_loopback(source.read_text() if source.exists() else "")


def without_loopback(resolver: str) -> str:
    lines = (line.split() for line in resolver.splitlines())
    kept = [words for words in lines if words[:1] != ["nameserver"] or not _is_loopback(words[1])]
    return "".join(f"{' '.join(words)}\n" for words in kept)


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"
