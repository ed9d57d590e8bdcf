"""What a node changes outside its folder: kept at the first node, given back at the last."""

import json
import shutil
import socket
from pathlib import Path

from devcluster.kubeconfig import write_private
from devcluster.paths import state_root

_PROC = Path("/proc/sys")
_SETTINGS = (
    "net/ipv4/ip_forward",  # ours; the others are what every kubelet sets for itself
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)
# folders whose paths are compiled into containerd and the kubelet; children before parents
_FOLDERS = (
    "/run/containerd/s",
    "/run/containerd",
    "/var/lib/cni/results",
    "/var/lib/cni",
    "/var/lib/kubelet/device-plugins",
    "/var/lib/kubelet",
    "/var/log/containers",
)
_NETWORK_RESULTS = Path("/var/lib/cni/results")
_LISTENING_FOLDERS = ("/run/containerd/s", "/var/lib/kubelet/device-plugins")


def _saved() -> Path:
    return state_root() / "_machine.json"


def remember_machine() -> None:
    """Unless another node has done so: what is found now may be its doing."""
    if _saved().exists():
        return
    present = [name for name in _SETTINGS if (_PROC / name).exists()]
    found = {
        "settings": {name: (_PROC / name).read_text().strip() for name in present},
        "absent": [folder for folder in _FOLDERS if not Path(folder).exists()],
    }
    write_private(_saved(), json.dumps(found, indent=2) + "\n")


def restore_machine() -> None:
    """To be called when no node is left. A folder that somebody else uses by now is kept."""
    if not _saved().exists():
        return
    found = json.loads(_saved().read_text())
    for name, value in found["settings"].items():
        (_PROC / name).write_text(value)
    for folder in set(_LISTENING_FOLDERS) & set(found["absent"]):
        remove_dead_sockets(Path(folder))
    for path in map(Path, found["absent"]):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    _saved().unlink()


def remove_dead_sockets(folder: Path) -> None:
    """Those of killed programs: nobody listens any more."""
    for path in folder.glob("*"):
        if path.is_socket() and not _is_listened_on(path):
            path.unlink()


def _is_listened_on(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
    return True


def remove_shim_sockets(run: Path) -> None:
    """containerd puts them into one folder for all; each task's bootstrap file names its own."""
    for bootstrap in run.glob("containerd/io.containerd.runtime.v2.task/*/*/bootstrap.json"):
        address = json.loads(bootstrap.read_text()).get("address", "")
        path = Path(address.removeprefix("unix://"))
        if path.is_socket():
            path.unlink()


def remove_log_links(root: Path) -> None:
    """The kubelet links every container's log from one folder; ours lead into `root`."""
    for link in Path("/var/log/containers").glob("*"):
        if link.is_symlink() and root in link.readlink().parents:
            link.unlink()


def remove_network_results(root: Path) -> None:
    """The CNI library keeps a file per pod; ours name a network namespace in `root`."""
    for result in _NETWORK_RESULTS.glob("*"):
        if f'"netns":"{root}/'.encode() in result.read_bytes():
            result.unlink()


def empty_folder(folder: Path) -> None:
    """Remove what is in it and keep the folder itself, with its mode."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
