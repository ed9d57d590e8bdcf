"""Gives a node the layers of our own engine as hard links: no copy, no second 6 GB on disk.

Both keep an unpacked layer as one folder with overlayfs' own whiteouts, and neither ever writes
to it again (a container's writes go to its own folder), so they may share the files.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from devcluster.command import run, succeeds
from devcluster.docker_store import Layer
from devcluster.errors import CommandError

_ROOT_LABEL = "containerd.io/gc.root"  # `ctr` sets it, so that nothing is collected meanwhile


def link_layers(layers: Sequence[Layer], ctr: Sequence[str | Path]) -> bool:
    """Return whether all layers could be linked; else the rest must be copied."""
    return all(_link(layer, [*ctr, "snapshots"]) for layer in layers)


def release_layers(layers: Sequence[Layer], ctr: Sequence[str | Path]) -> None:
    """From now on only an image keeps them."""
    for layer in layers:
        run([*ctr, "snapshots", "label", layer.chain_id, f"{_ROOT_LABEL}="])


def _link(layer: Layer, snapshots: list[str | Path]) -> bool:
    key = f"devcluster-{layer.chain_id}"
    succeeds([*snapshots, "remove", key])  # what an interrupted load left
    run([*snapshots, "prepare", key, *([layer.parent_id] if layer.parent_id else [])])
    target = writable_folder(run([*snapshots, "mounts", "/target", key]))
    if not succeeds(["cp", "--archive", "--link", f"{layer.files}/.", target]):
        run([*snapshots, "remove", key])
        return False  # on another file system
    run([*snapshots, "commit", layer.chain_id, key])
    return True


def writable_folder(command: str) -> Path:
    """Where a snapshot's own files lie, from the mount command that `ctr` would have us run."""
    words = shlex.split(command)
    options = words[words.index("-o") + 1].split(",")
    for option in options:
        if option.startswith("upperdir="):
            return Path(option.removeprefix("upperdir="))
    if "rbind" in options or "bind" in options:
        return Path(next(word for word in words if word.startswith("/")))
    raise CommandError(f"ctr mounts a snapshot in an unknown way: {command.strip()}")
