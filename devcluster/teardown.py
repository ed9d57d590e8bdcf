"""Takes a cluster off the machine, from its last container to its folder.

It needs no record and no program of the cluster to work, so that what crashed half-way up can
be removed as well. What it ends, it knows by the record of the process, by the cluster's own
control groups, or by the socket of the cluster's own containerd.
"""

import ctypes
import os
import shutil
from pathlib import Path

from devcluster import process
from devcluster.cgroups import kill_members, remove_cgroups
from devcluster.machine_traces import (
    remove_log_links,
    remove_network_results,
    remove_shim_sockets,
    restore_machine,
)
from devcluster.network import remove_network
from devcluster.node import KUBELET, containerd_socket
from devcluster.paths import ClusterFolder, existing_clusters

_DETACH = 2  # MNT_DETACH of umount(2): out of the way now, gone when the last user is


def remove_cluster(folder: ClusterFolder) -> None:
    has_node = folder.node.exists()
    if has_node:
        _end_node(folder)
    _kill_programs(folder, recorded_programs(folder))
    if has_node:
        _clean_machine(folder)
    shutil.rmtree(folder.root)
    if not any(other.node.exists() for other in existing_clusters()):
        restore_machine()


def recorded_programs(folder: ClusterFolder) -> list[str]:
    """Every program that was ever started, by its record."""
    if not folder.processes.is_dir():
        return []
    return [path.name for path in sorted(folder.processes.iterdir()) if not path.suffix]


def _kill_programs(folder: ClusterFolder, programs: list[str]) -> None:
    identities = (process.recorded(folder.process(program)) for program in programs)
    process.kill_all([identity for identity in identities if identity is not None])


def _end_node(folder: ClusterFolder) -> None:
    """First who would start containers anew, then the containers, then their shims."""
    _kill_programs(folder, [KUBELET, "containerd"])
    kill_members(folder)
    process.kill_all(_shims(folder))


def _shims(folder: ClusterFolder) -> list[process.Identity]:
    """The shims of our containerd: they carry its socket as an argument."""
    found = (_shim(path, str(containerd_socket(folder))) for path in Path("/proc").glob("[0-9]*"))
    return [identity for identity in found if identity is not None]


def _shim(path: Path, socket: str) -> process.Identity | None:
    identity = process.identity_of(int(path.name))
    try:
        arguments = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return identity if is_shim_of(arguments, socket) else None


def is_shim_of(arguments: list[str], socket: str) -> bool:
    return arguments[0].endswith("containerd-shim-runc-v2") and socket in arguments


def _clean_machine(folder: ClusterFolder) -> None:
    remove_shim_sockets(folder.run)
    unmount_below(folder.root)
    remove_network(folder)
    remove_cgroups(folder)
    remove_log_links(folder.root)
    remove_network_results(folder.root)


def unmount_below(root: Path) -> None:
    """Everything mounted in the folder: volumes, containers' roots, network namespaces."""
    libc = ctypes.CDLL(None, use_errno=True)
    for target in mounts_below(root):
        if libc.umount2(os.fsencode(target), _DETACH):
            code = ctypes.get_errno()
            raise OSError(code, f"{target} cannot be unmounted: {os.strerror(code)}")


def mounts_below(root: Path) -> list[Path]:
    """Mount points in the folder, the last mounted first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    targets = [Path(unescaped(line.split()[4])) for line in lines]
    return [target for target in reversed(targets) if root in target.parents]


def unescaped(field: str) -> str:
    """The kernel writes space, tab, newline and backslash as octal escapes."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field


def forget_last_boot(folder: ClusterFolder) -> None:
    """After a restart of the machine nothing runs: drop what described running things."""
    marker = folder.root / "boot-id"
    if marker.exists() and marker.read_text() != process.boot_id():
        shutil.rmtree(folder.run, ignore_errors=True)
        shutil.rmtree(folder.processes, ignore_errors=True)
    marker.write_text(process.boot_id())
