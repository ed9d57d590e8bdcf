"""Where everything lies: the cache that outlives clusters and the folder of each cluster."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from devcluster.errors import ClusterStateError

_NAME = re.compile(r"[a-z][a-z0-9-]{0,19}")
_LONGEST_SOCKET = 107  # sun_path holds 108 bytes, the last one is zero
PROGRAMS = Path(__file__).parent / "programs"
REPOSITORY = Path(__file__).parent.parent


def cache_root() -> Path:
    """What is expensive to make and safe to delete: programs, base images, Docker's layers."""
    given = os.environ.get("DEVCLUSTER_CACHE")
    return Path(given).absolute() if given else Path.home() / ".cache/modelserver-devcluster"


def state_root() -> Path:
    """The folder in which every cluster has a folder of its own."""
    given = os.environ.get("DEVCLUSTER_HOME")
    return Path(given).absolute() if given else Path.home() / ".local/state/modelserver-devcluster"


@dataclass(frozen=True, slots=True)
class ClusterFolder:
    """The layout of one cluster on disk; deleting `root` (after `down`) forgets the cluster."""

    root: Path

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def record(self) -> Path:
        return self.root / "cluster.json"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def admin_token(self) -> Path:
        return self.root / "admin-token"

    @property
    def certificates(self) -> Path:
        return self.root / "certificates"

    @property
    def config(self) -> Path:
        return self.root / "config"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def processes(self) -> Path:
        return self.root / "processes"

    @property
    def etcd(self) -> Path:
        return self.root / "etcd"

    @property
    def node(self) -> Path:
        return self.root / "node"

    @property
    def run(self) -> Path:
        """Sockets and run-time state that mean nothing after the machine has restarted."""
        return self.root / "run"

    @property
    def volumes(self) -> Path:
        return self.root / "volumes"

    @property
    def audit_log(self) -> Path:
        return self.logs / "audit.jsonl"

    def log(self, program: str) -> Path:
        return self.logs / f"{program}.log"

    def process(self, program: str) -> Path:
        return self.processes / program


def cluster_folder(name: str) -> ClusterFolder:
    if not _NAME.fullmatch(name):
        raise ClusterStateError(
            f"the cluster name is {name!r}; it must start with a letter and have at most 20 "
            "lower-case letters, digits and dashes"
        )
    folder = ClusterFolder(state_root() / name)
    longest = str(folder.run / "containerd.sock.ttrpc")
    if len(longest) > _LONGEST_SOCKET:
        raise ClusterStateError(
            f"the path {longest} is too long for a Unix socket ({len(longest)} characters, at most "
            f"{_LONGEST_SOCKET}); set DEVCLUSTER_HOME to a shorter folder"
        )
    return folder


def existing_clusters() -> list[ClusterFolder]:
    """Every cluster that has been brought up and not taken down, also one that crashed."""
    if not state_root().is_dir():
        return []
    folders = (path for path in sorted(state_root().iterdir()) if _NAME.fullmatch(path.name))
    return [ClusterFolder(path) for path in folders if path.is_dir()]
