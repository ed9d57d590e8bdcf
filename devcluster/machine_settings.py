"""Kernel settings of the machine that a node changes: kept at the first, given back at the last."""

import json
from pathlib import Path

from devcluster.kubeconfig import write_private
from devcluster.paths import state_root

_PROC = Path("/proc/sys")
_CHANGED = (
    "net/ipv4/ip_forward",  # ours; the others are what every kubelet sets for itself
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)


def _saved() -> Path:
    return state_root() / "_machine-settings.json"


def save_machine_settings() -> None:
    """Remember them unless another cluster has: what is set now may be its doing."""
    if not _saved().exists():
        values = {name: (_PROC / name).read_text().strip() for name in _present()}
        write_private(_saved(), json.dumps(values, indent=2) + "\n")


def restore_machine_settings() -> None:
    """To be called when no node is left."""
    if not _saved().exists():
        return
    for name, value in json.loads(_saved().read_text()).items():
        (_PROC / name).write_text(value)
    _saved().unlink()


def _present() -> list[str]:
    return [name for name in _CHANGED if (_PROC / name).exists()]
