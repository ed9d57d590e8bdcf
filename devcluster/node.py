"""The node: configuration and start of containerd, kubelet and kube-proxy."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from devcluster import finder, process
from devcluster.catalog import FAMILIES, FamilyName
from devcluster.certificates import Certificates, Subject
from devcluster.cgroups import cgroup_name
from devcluster.command import succeeds
from devcluster.daemon import Daemon, HttpProbe, get
from devcluster.network import inside
from devcluster.paths import ClusterFolder
from devcluster.record import ClusterRecord

KUBELET = "kubelet"
KUBE_PROXY = "kube-proxy"
CONTAINERD = "containerd"
_MOST_PODS = 200  # a /24 has 253 addresses, and a pod's is free again only after its removal
_CAP_SYS_RESOURCE = 24


def node_name(folder: ClusterFolder) -> str:
    return f"{folder.name}-node"


def node_subjects(folder: ClusterFolder, record: ClusterRecord) -> tuple[Subject, ...]:
    name = node_name(folder)
    served = (f"DNS:{name}", f"IP:{record.networks.node}")
    return (
        Subject(
            name=KUBELET, user=f"system:node:{name}", group="system:nodes", alternatives=served
        ),
        Subject(name=KUBE_PROXY, user=f"system:{KUBE_PROXY}"),
    )


def containerd_socket(folder: ClusterFolder) -> Path:
    return folder.run / "containerd.sock"


def containerd_config(
    folder: ClusterFolder, programs: Mapping[str, Path], *, pause_image: str
) -> str:
    """TOML; every path lies in the cluster's folder, so that clusters do not share a thing."""
    runtime = "plugins.'io.containerd.cri.v1.runtime'"
    runc = f"{runtime}.containerd.runtimes.runc"
    cni = finder.family_folder(FAMILIES[FamilyName.CNI])
    return f"""\
version = 3
root = '{folder.node / "containerd"}'
state = '{folder.run / "containerd"}'
disabled_plugins = ['io.containerd.internal.v1.opt', 'io.containerd.snapshotter.v1.blockfile',
  'io.containerd.snapshotter.v1.btrfs', 'io.containerd.snapshotter.v1.devmapper',
  'io.containerd.snapshotter.v1.erofs', 'io.containerd.snapshotter.v1.zfs']

[debug]
level = 'warn'
[grpc]
address = '{containerd_socket(folder)}'
[ttrpc]
address = '{folder.run / "containerd.sock.ttrpc"}'

[plugins.'io.containerd.nri.v1.nri']
disable = true
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{pause_image}'
[{runtime}]
restrict_oom_score_adj = {str(not _may_raise_limits()).lower()}
netns_mounts_under_state_dir = true
[{runtime}.cni]
bin_dirs = ['{cni}']
conf_dir = '{folder.config / "cni"}'
[{runtime}.containerd]
default_runtime_name = 'runc'
[{runc}]
runtime_type = 'io.containerd.runc.v2'
runtime_path = '{programs["containerd-shim-runc-v2"]}'
[{runc}.options]
BinaryName = '{programs["runc"]}'
Root = '{folder.run / "runc"}'
SystemdCgroup = false
"""


def _may_raise_limits() -> bool:
    """Without CAP_SYS_RESOURCE (root in many sandboxes) no oom_score_adj may be lowered."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(line.split()[1], 16) >> _CAP_SYS_RESOURCE & 1)


def cni_config(folder: ClusterFolder, record: ClusterRecord) -> str:
    ipam = {
        "type": "host-local",
        "dataDir": str(folder.run / "cni"),
        "ranges": [[{"subnet": str(record.networks.pods)}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,  # a pod may be the one that its own Service picks
        "ipam": ipam,
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    plugins = [bridge, portmap]
    conflist = {"cniVersion": "1.0.0", "name": cgroup_name(folder), "plugins": plugins}
    return json.dumps(conflist, indent=2) + "\n"


def kubelet_config(folder: ClusterFolder, record: ClusterRecord) -> str:
    certificates = Certificates(folder.certificates)
    config: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": record.networks.node,
        "healthzBindAddress": record.networks.node,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(certificates.ca)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(certificates.certificate(KUBELET)),
        "tlsPrivateKeyFile": str(certificates.key(KUBELET)),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup_name(folder)}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [record.networks.dns],
        "clusterDomain": "cluster.local",
        "resolvConf": str(folder.config / "resolv.conf"),
        "containerRuntimeEndpoint": f"unix://{containerd_socket(folder)}",
        "podLogsDir": str(folder.logs / "pods"),
        "volumePluginDir": str(folder.node / "volume-plugins"),
        "maxPods": _MOST_PODS,
        "syncFrequency": "10s",  # of mounted Secrets and ConfigMaps; a minute is long to look at
        # a full disk must not evict what is being developed, nor collect an image that no
        # registry could give again
        "evictionHard": {
            "memory.available": "200Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    }
    return yaml.safe_dump(config, sort_keys=False)


def kube_proxy_config(folder: ClusterFolder, record: ClusterRecord) -> str:
    networks = record.networks
    config: dict[str, Any] = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "bindAddress": networks.node,
        "healthzBindAddress": f"{networks.node}:10256",
        "metricsBindAddress": f"{networks.node}:10249",
        "clientConnection": {"kubeconfig": str(folder.config / "kube-proxy.kubeconfig")},
        "clusterCIDR": str(networks.pods),
        "hostnameOverride": node_name(folder),
        # these belong to the machine, not to the namespace, and may not be written from there
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }
    return yaml.safe_dump(config, sort_keys=False)


def containerd(folder: ClusterFolder, programs: Mapping[str, Path]) -> Daemon:
    argv = inside(folder, [programs[CONTAINERD], f"--config={folder.config / 'containerd.toml'}"])

    def problem() -> str:
        answers: list[str | Path] = [
            programs["ctr"],
            "--address",
            containerd_socket(folder),
            "version",
        ]
        return "" if succeeds(answers, timeout_seconds=10) else "its socket does not answer"

    return Daemon(program=CONTAINERD, argv=argv, problem=problem)


def node_daemons(
    folder: ClusterFolder, record: ClusterRecord, programs: Mapping[str, Path], admin_token: str
) -> list[Daemon]:
    is_up = process.running(folder, KUBELET) is not None
    since = None if is_up else datetime.now(UTC).replace(microsecond=0)
    kubelet_argv: list[str | Path] = [
        programs[KUBELET],
        f"--config={folder.config / 'kubelet.yaml'}",
        f"--kubeconfig={folder.config / 'kubelet.kubeconfig'}",
        f"--root-dir={folder.node / 'kubelet'}",
        f"--cert-dir={folder.certificates}",
        f"--hostname-override={node_name(folder)}",
        f"--node-ip={record.networks.node}",
    ]
    proxy_argv: list[str | Path] = [
        programs[KUBE_PROXY],
        f"--config={folder.config / 'kube-proxy.yaml'}",
    ]
    proxy_probe = HttpProbe(address=f"http://{record.networks.node}:10256/healthz")
    return [
        Daemon(
            program=KUBELET,
            argv=inside(folder, kubelet_argv),
            problem=lambda: _node_problem(folder, record, admin_token, since),
        ),
        Daemon(program=KUBE_PROXY, argv=inside(folder, proxy_argv), problem=proxy_probe),
    ]


def _node_problem(
    folder: ClusterFolder, record: ClusterRecord, token: str, since: datetime | None
) -> str:
    """Why the node is not Ready, as its own condition says."""
    address = f"{record.server}/api/v1/nodes/{node_name(folder)}"
    ca = Certificates(folder.certificates).ca
    try:
        health = HttpProbe(address=f"http://{record.networks.node}:10248/healthz")()
        status, body = get(address, ca=ca, token=token)
    except OSError as e:
        return str(e)
    return health or not_ready_reason(status, body, since=since)


def not_ready_reason(status: int, body: bytes, *, since: datetime | None = None) -> str:
    """`since` is when the kubelet started: what one before it said does not count."""
    if status != 200:  # noqa: PLR2004  HTTP OK
        return f"the node has not registered itself ({status})"
    conditions = json.loads(body).get("status", {}).get("conditions", [])
    ready = [condition for condition in conditions if condition["type"] == "Ready"]
    if not ready:
        return "the node has no condition Ready yet"
    if since and datetime.fromisoformat(ready[0]["lastHeartbeatTime"]) < since:
        return "the kubelet has not reported yet"
    if ready[0]["status"] == "True":
        return ""
    return f"the node is not Ready: {ready[0].get('message', '')}"
