"""Manifests of projects as their own kustomization makes them, from their Go modules."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import yaml

from devcluster import module_files
from devcluster.command import run
from devcluster.console import step
from devcluster.lock import locked
from devcluster.module_files import Module
from devcluster.paths import cache_root

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a MiB takes half a minute in Python

type Manifest = dict[str, Any]


def kustomized(module: Module, folder: str, *, name: str, kubectl: Path) -> list[Manifest]:
    """From the cache, where they are named after the version; made the first time.

    `folder` is that of the kustomization in the module; what it builds on must lie in the same
    first folder. `name` says of whom they are.
    """
    file = cache_root() / "manifests" / f"{name}-{module.version}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    with locked(file.parent):
        if not file.exists():
            with step(f"fetching the manifests of {name} {module.version}"):
                made = _made(module, folder, name=name, kubectl=kubectl)
            unfinished = file.with_name(f".{file.name}.{os.getpid()}")
            unfinished.write_text(json.dumps(made))
            unfinished.rename(file)
    found: list[Manifest] = json.loads(file.read_text())
    return found


def _made(module: Module, folder: str, *, name: str, kubectl: Path) -> list[Manifest]:
    archive = module_files.download(module, purpose=f"the manifests of {name}")
    with tempfile.TemporaryDirectory(prefix="devcluster-manifests-") as scratch:
        module_files.extract(archive, module, f"{Path(folder).parts[0]}/", Path(scratch))
        made = run([kubectl, "kustomize", Path(scratch) / folder])
    return [one for one in yaml.load_all(made, Loader=_LOADER) if one]
