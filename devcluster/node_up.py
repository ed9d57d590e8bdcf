"""Brings the node of a cluster up: network, containerd, images, kubelet, kube-proxy, add-ons."""

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from devcluster import addons, network, node
from devcluster.certificates import Certificates, make_certificates
from devcluster.cgroups import ensure_cgroups
from devcluster.command import need_tools, run
from devcluster.console import step
from devcluster.daemon import ensure_running, get, start, wait_until_ready
from devcluster.errors import ClusterStateError, NotReadyError
from devcluster.kubeconfig import write_kubeconfigs, write_private
from devcluster.machine_traces import remember_machine
from devcluster.paths import ClusterFolder
from devcluster.record import ClusterRecord
from devcluster.scratch_image import image_name, make_image_archive

_TOOLS = {
    "ip": "iproute2",
    "iptables": "iptables",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",  # the kubelet calls it for every volume
}
_POLL_SECONDS = 0.1
_ADDON_SECONDS = 120.0
_SCRATCH_PROGRAMS = ("pause", "coredns")


def check_machine() -> None:
    if os.geteuid() != 0:
        raise ClusterStateError(
            "a cluster with a node needs root (containerd, kubelet and network namespaces); "
            "run it with sudo, or take a cluster without a node: --api-only"
        )
    need_tools(_TOOLS, purpose="a cluster with a node")


def prepare(folder: ClusterFolder, record: ClusterRecord, programs: Mapping[str, Path]) -> None:
    """All that must exist before the API server listens on the link and containerd starts."""
    for path in (folder.node, folder.config / "cni", folder.logs / "pods"):
        path.mkdir(parents=True, exist_ok=True)
    remember_machine()
    make_certificates(folder.certificates, node.node_subjects(folder, record))
    _write_files(folder, record, programs)
    addons.make_volume_folders(folder)
    ensure_cgroups(folder)
    network.ensure_network(folder, record)


def _write_files(
    folder: ClusterFolder, record: ClusterRecord, programs: Mapping[str, Path]
) -> None:
    pause = image_name("pause", programs["pause"])
    files = {
        "containerd.toml": node.containerd_config(folder, programs, pause_image=pause),
        "cni/10-devcluster.conflist": node.cni_config(folder, record),
        "kubelet.yaml": node.kubelet_config(folder, record),
        "kube-proxy.yaml": node.kube_proxy_config(folder, record),
        "resolv.conf": network.resolver_configuration(),
    }
    for name, content in files.items():
        write_private(folder.config / name, content)
    clients = {
        user: folder.config / f"{user}.kubeconfig" for user in (node.KUBELET, node.KUBE_PROXY)
    }
    write_kubeconfigs(Certificates(folder.certificates), record.server, folder.name, clients)


def start_node(
    folder: ClusterFolder, record: ClusterRecord, programs: Mapping[str, Path], token: str
) -> None:
    start("container runtime", folder, [node.containerd(folder, programs)])
    _import_scratch_images(folder, programs)
    daemons = node.node_daemons(folder, record, programs, token)
    started = ensure_running(folder, daemons)
    _apply_addons(folder, record, programs)
    if not started:
        wait_until_ready(folder, daemons)
        _wait_for_addons(folder, record, token)
        return
    with step(f"starting the node: {', '.join(started)}"):
        wait_until_ready(folder, daemons)
    with step("waiting for CoreDNS and the default ServiceAccount"):
        _wait_for_addons(folder, record, token)


def images_on_node(folder: ClusterFolder, ctr: Path) -> set[str]:
    return set(run([*ctr_command(folder, ctr), "images", "list", "-q"]).split())


def ctr_command(folder: ClusterFolder, ctr: Path) -> list[str | Path]:
    """`ctr` on the images that the kubelet sees."""
    return [ctr, "--address", node.containerd_socket(folder), "--namespace", "k8s.io"]


def _import_scratch_images(folder: ClusterFolder, programs: Mapping[str, Path]) -> None:
    wanted = {program: programs[program] for program in _SCRATCH_PROGRAMS}
    import_programs(folder, programs["ctr"], wanted)


def import_programs(
    folder: ClusterFolder, ctr: Path, programs: Mapping[str, Path]
) -> dict[str, str]:
    """The node has an image of nothing but the program for each; returns their names."""
    known = images_on_node(folder, ctr)
    names = {program: image_name(program, path) for program, path in programs.items()}
    for program, name in names.items():
        if name not in known:
            archive = make_image_archive(name, programs[program])
            run([*ctr_command(folder, ctr), "images", "import", "--local", "-"], stdin=archive)
    return names


def _apply_addons(
    folder: ClusterFolder, record: ClusterRecord, programs: Mapping[str, Path]
) -> None:
    image = image_name("coredns", programs["coredns"])
    resolver = (folder.config / "resolv.conf").read_text()
    manifests = addons.dns_manifests(record, image, resolver) + addons.storage_manifests(folder)
    addons.apply(folder, programs["kubectl"], manifests)
    addons.recycle_volumes(folder, programs["kubectl"])


def _wait_for_addons(folder: ClusterFolder, record: ClusterRecord, token: str) -> None:
    def read(path: str) -> tuple[int, bytes]:
        return get(f"{record.server}{path}", ca=Certificates(folder.certificates).ca, token=token)

    deadline = time.monotonic() + _ADDON_SECONDS
    while problem := _addon_problem(read):
        if time.monotonic() > deadline:
            raise NotReadyError(
                f"{problem} after {_ADDON_SECONDS:.0f} s; see `kubectl -n kube-system describe "
                f"pods` with KUBECONFIG={folder.kubeconfig} and {folder.log('kubelet')}"
            )
        time.sleep(_POLL_SECONDS)


def _addon_problem(read: Callable[[str], tuple[int, bytes]]) -> str:
    status, body = read("/apis/apps/v1/namespaces/kube-system/deployments/coredns")
    if not is_available(status, body):
        return "CoreDNS is not Available"
    status, _ = read("/api/v1/namespaces/default/serviceaccounts/default")
    return "" if status == 200 else "the ServiceAccount default/default does not exist"  # noqa: PLR2004


def is_available(status: int, body: bytes) -> bool:
    if status != 200:  # noqa: PLR2004  HTTP OK
        return False
    conditions = json.loads(body).get("status", {}).get("conditions", [])
    return any(item["type"] == "Available" and item["status"] == "True" for item in conditions)
