"""The control groups of a node: one tree of its own, so that two kubelets never meet."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from devcluster import process
from devcluster.errors import ClusterStateError, NotReadyError
from devcluster.paths import ClusterFolder

_UNIFIED = Path("/sys/fs/cgroup")
_KILL_SECONDS = 20.0
_POLL_SECONDS = 0.05


def cgroup_name(folder: ClusterFolder) -> str:
    return f"devcluster-{folder.name}"


def is_unified() -> bool:
    """Whether this machine has cgroup v2 only."""
    return (_UNIFIED / "cgroup.controllers").exists()


def ensure_cgroups(folder: ClusterFolder) -> None:
    for mount in _hierarchies():
        try:
            (mount / cgroup_name(folder)).mkdir(exist_ok=True)
        except OSError as e:
            raise ClusterStateError(
                f"a control group cannot be made in {mount} ({e.strerror}), and without them there "
                "is no node; in a container give it --privileged, or take --api-only"
            ) from e
    if is_unified():
        _delegate(_UNIFIED)
        _delegate(_UNIFIED / cgroup_name(folder))


def _delegate(group: Path) -> None:
    """Give the children of a v2 group every controller that the group has."""
    for controller in (group / "cgroup.controllers").read_text().split():
        with suppress(OSError):  # the kubelet says which of them it cannot do without
            (group / "cgroup.subtree_control").write_text(f"+{controller}")


def _hierarchies() -> list[Path]:
    if is_unified():
        return [_UNIFIED]
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    fields = (line.split() for line in mounts)
    return [Path(field[1]) for field in fields if field[2] in {"cgroup", "cgroup2"}]


def _groups(folder: ClusterFolder) -> list[Path]:
    """All our groups, children before parents."""
    tops = (mount / cgroup_name(folder) for mount in _hierarchies())
    walks = (os.walk(top, topdown=False) for top in tops if top.is_dir())
    return [Path(group) for walk in walks for group, _, _ in walk]


def _members(folder: ClusterFolder) -> set[int]:
    return {pid for group in _groups(folder) for pid in _pids(group)}


def _pids(group: Path) -> list[int]:
    try:
        return [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
    except FileNotFoundError:
        return []


def kill_members(folder: ClusterFolder) -> None:
    """End every container: who is in a group that we made was started by this cluster."""
    deadline = time.monotonic() + _KILL_SECONDS
    while pids := _members(folder):
        if time.monotonic() > deadline:
            raise NotReadyError(f"the containers' processes {sorted(pids)} do not end when killed")
        for identity in filter(None, map(process.identity_of, pids)):
            process.send(identity, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)


def remove_cgroups(folder: ClusterFolder) -> None:
    """A group stays busy for a moment after its last process; try until the deadline."""
    deadline = time.monotonic() + _KILL_SECONDS
    while groups := _groups(folder):
        for group in groups:
            _try_remove(group)
        if time.monotonic() > deadline:
            raise NotReadyError(f"the control group {groups[-1]} cannot be removed: it is busy")


def _try_remove(group: Path) -> None:
    try:
        group.rmdir()
    except OSError:
        time.sleep(_POLL_SECONDS)
